//! Characters: one kind of line break, one kind of space, and nothing that cannot be seen.

/// Line breaks of every convention become `\n`, runs of any space one space, lines lose the space around them; control
/// and format characters (zero-width spaces, direction marks, soft hyphens, the byte order mark) go.
pub fn clean(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut line_is_empty = true;
    let mut pending_space = false;
    let mut after_return = false;
    for c in text.chars() {
        if c == '\n' && after_return {
            after_return = false;
            continue;
        }
        after_return = c == '\r';
        if c.is_ascii_graphic() || !(is_line_break(c) || c.is_whitespace() || is_invisible(c)) {
            if pending_space && !line_is_empty {
                out.push(' ');
            }
            out.push(c);
            line_is_empty = false;
            pending_space = false;
        } else if is_line_break(c) {
            out.push('\n');
            line_is_empty = true;
            pending_space = false;
        } else if c.is_whitespace() {
            pending_space = true;
        }
    }
    out
}

fn is_line_break(c: char) -> bool {
    matches!(c, '\n' | '\r' | '\u{0b}' | '\u{0c}' | '\u{85}' | '\u{2028}' | '\u{2029}')
}

/// The joiners U+200C and U+200D stay: scripts and emoji need them.
fn is_invisible(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{ad}' | '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{feff}')
        || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{2069}')
}
