//! The Update Framework 1.0: documents and the client's workflow as a pure state machine.
