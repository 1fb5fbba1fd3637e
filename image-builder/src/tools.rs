//! External programs: one enum of names, found and run in one place; parsers are elsewhere.
