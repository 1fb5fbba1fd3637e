//! What a host relies on: one test an attack, each against a repository that is otherwise in order.

mod attacks;
mod delegations;
mod hostile;
mod repository;
mod seen;
mod store;
