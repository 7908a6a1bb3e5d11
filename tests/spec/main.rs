//! What is demanded of a broker, and which test shows that it is so.

mod traps;
