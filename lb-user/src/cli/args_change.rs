//! What can be typed to change the edge while it runs, and to look at what was changed.

use super::args::name;
use crate::admin::api::{HISTORY_LISTED, OnlyIf};
use clap::{Args, Subcommand};
use std::path::PathBuf;

#[derive(Debug, Clone, Subcommand)]
pub(super) enum ChangeVerb {
    /// What differs from the config file because it was changed at run time
    Diff,
    /// Write what differs into the config file, comments and order kept, and have it read again
    Save {
        /// Print what would be written
        #[arg(long)]
        dry_run: bool,
    },
    /// Drop what was changed at run time: what the config file says holds again
    Reset {
        /// Of this pool only
        #[arg(long, value_parser = name)]
        pool: Option<String>,
        #[command(flatten)]
        how: How,
    },
    /// Who changed what, and when; the last first
    History {
        /// So many at most
        #[arg(long, default_value_t = HISTORY_LISTED as u32, value_parser = clap::value_parser!(u32).range(1..))]
        limit: u32,
    },
    /// What was changed at run time as it was after a change of the history; 0: no change
    Rollback {
        /// Number of that change
        number: u64,
        #[command(flatten)]
        how: How,
    },
    /// Several changes as one: all of them are made, or none
    Apply {
        /// A change a line, in the words of this command line, such as "pool drain web 10.0.0.1:80"; `-`: standard input
        file: PathBuf,
        #[command(flatten)]
        how: How,
    },
}

/// How a change is made.
#[derive(Debug, Clone, Args)]
pub(super) struct How {
    /// Print what would be done
    #[arg(long)]
    pub(super) dry_run: bool,
    #[command(flatten)]
    pub(super) unless: Unless,
}

/// What keeps a change from being made.
#[derive(Debug, Clone, Default, Args)]
pub(super) struct Unless {
    /// Only if nobody has changed anything since this generation
    #[arg(long, value_name = "GENERATION")]
    if_generation: Option<u64>,
    /// Only if this is the last change of the history
    #[arg(long, value_name = "NUMBER")]
    if_change: Option<u64>,
}

impl Unless {
    pub(super) fn only_if(&self) -> OnlyIf {
        OnlyIf { if_generation: self.if_generation, if_change: self.if_change }
    }
}
