//! Settings: five layers, the products' own file, and everything that can be wrong with them.

mod advice;
mod deprecated;
mod layers;
mod legacy;
mod mistakes;
mod worker_counts;
