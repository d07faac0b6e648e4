//! What the tests of this workspace share.
pub mod packet;
pub mod privilege;
pub mod random;
