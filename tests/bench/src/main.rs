//! `make bench`: nodegate beside nginx and HAProxy, row after row.

#![allow(dead_code)]
mod load;

fn main() {}
