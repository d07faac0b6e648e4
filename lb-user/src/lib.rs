//! Bailey's control plane.
pub mod datapath;
