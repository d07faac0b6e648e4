//! A part of the terminal that is written over and over: `--watch` and `top`. Escape sequences are those of ECMA-48, which
//! every terminal of the last decades knows.

use super::say;
use std::io::IsTerminal as _;
use std::time::Duration;

/// Rows where the terminal does not say.
const ROWS: usize = 24;

/// Whether there is a terminal to write over.
pub(super) fn is_there() -> bool {
    std::io::stdout().is_terminal()
}

/// Rows of the terminal.
pub(super) fn rows() -> usize {
    rustix::termios::tcgetwinsize(std::io::stdout()).map_or(ROWS, |size| usize::from(size.ws_row)).max(4)
}

/// The text from the top of the screen, and nothing below it. False: nobody reads it.
pub(super) fn draw(text: &str) -> bool {
    // Line by line over what stands there, not on a screen that was cleared before: that flickers.
    let lines: String = text.lines().map(|line| format!("{line}\x1b[K\n")).collect();
    say::print(&format!("\x1b[H{lines}\x1b[J"))
}

/// The other screen for as long as this lives, without a cursor. What stood on the first one stands there again afterwards.
pub(super) struct Other(());

impl Other {
    pub(super) fn enter() -> Self {
        say::print("\x1b[?1049h\x1b[?25l\x1b[2J");
        Self(())
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        say::print("\x1b[?25h\x1b[?1049l");
    }
}

/// The first line: what is shown, how often, and how it ends.
pub(super) fn head(what: &str, every: Duration) -> String {
    format!("{what}, every {every:?}; Ctrl-C ends\n\n")
}
