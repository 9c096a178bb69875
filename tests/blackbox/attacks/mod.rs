//! Attacks of strangers as they were made: raw sockets for HTTP/1.1, an independent library for HTTP/2, each on the
//! listener for everything and on the one for the public.

mod handshakes;
mod listeners;
mod logins;
mod logs;
mod memory;
mod place;
mod stranger;
mod uploads;
