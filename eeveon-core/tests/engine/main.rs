//! Tests of the engine and of everything it decides from: plans, the fold, the journal's format.
#![cfg(test)]

mod crash;
mod durability;
mod fold;
mod fuzz;
mod golden;
mod pages;
mod retries;
mod script;
mod stage;
mod strategies;
mod waves;
mod world;
