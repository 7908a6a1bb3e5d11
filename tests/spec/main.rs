//! What the standards and experience demand of a broker, and which test shows that it is so.

mod statements;
mod traps;
