//! What the standards demand, and which test shows that it is so.

mod statements;
