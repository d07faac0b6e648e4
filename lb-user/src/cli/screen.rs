//! A part of the terminal that is written over and over. Escape sequences are those of ECMA-48, which
//! every terminal of the last decades knows.

use super::say;
use std::io::IsTerminal as _;
use std::time::Duration;

/// Whether there is a terminal to write over.
pub(super) fn is_there() -> bool {
    std::io::stdout().is_terminal()
}

/// The text from the top of the screen, and nothing below it. False: nobody reads it.
pub(super) fn draw(text: &str) -> bool {
    // Line by line over what stands there, not on a screen that was cleared before: that flickers.
    let lines: String = text.lines().map(|line| format!("{line}\x1b[K\n")).collect();
    say::print(&format!("\x1b[H{lines}\x1b[J"))
}

/// The first line: what is shown, how often, and how it ends.
pub(super) fn head(what: &str, every: Duration) -> String {
    format!("{what}, every {every:?}; Ctrl-C ends\n\n")
}
