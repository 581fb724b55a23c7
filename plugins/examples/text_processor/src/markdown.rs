//! Markdown made plain, lightly: what a reader would read stays; marks and fenced code go. A block becomes a line.
//!
//! This is no Markdown parser and wants to be none. Lines are gathered into blocks; in a block, markup is found as
//! ranges to cut out, and what is left is the text. Nothing recurses, so no nesting is deep enough to break it, and
//! text that is not Markdown passes nearly as it is.

use std::ops::Range;

/// How far from its beginning a link's address, a tag or a code span may end, in bytes.
const REACH: usize = 2_000;

#[derive(Default)]
pub struct Document {
    /// Blocks, parted by blank lines.
    pub text: String,
    pub paragraphs: usize,
    pub headings: usize,
    pub list_items: usize,
    pub code_blocks: usize,
}

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Paragraph,
    Heading,
    ListItem,
    TableRow,
}

/// What one line is. Text may go on with the block above it.
enum Line<'a> {
    Blank,
    Fence(&'a str),
    Underline,
    Ornament,
    Heading(&'a str),
    ListItem(&'a str),
    TableRow(&'a str),
    Text(&'a str),
}

impl Document {
    fn add(&mut self, kind: Kind, block: &str) {
        let start = self.text.len();
        if start > 0 {
            self.text.push_str("\n\n");
        }
        let written = push_without(&mut self.text, block, &cuts(block));
        if !written {
            self.text.truncate(start);
            return;
        }
        match kind {
            Kind::Paragraph => self.paragraphs += 1,
            Kind::Heading => self.headings += 1,
            Kind::ListItem => self.list_items += 1,
            Kind::TableRow => {}
        }
    }
}

/// `text` has `\n` for line breaks and no space around its lines.
pub fn strip(text: &str) -> Document {
    let mut document = Document::default();
    let mut block = String::new();
    let mut kind = Kind::Paragraph;
    let mut fence: Option<&str> = None;
    for line in text.lines() {
        if let Some(opening) = fence {
            if line.starts_with(opening) && line.trim_start_matches(&opening[..1]).is_empty() {
                fence = None;
            }
            continue;
        }
        let line = classify(line.trim_start_matches(['>', ' ']));
        if let Line::Text(words) = line {
            if !block.is_empty() {
                block.push(' ');
            }
            block.push_str(words);
            continue;
        }
        if matches!(line, Line::Underline) && kind == Kind::Paragraph {
            kind = Kind::Heading;
        }
        document.add(kind, &block);
        block.clear();
        kind = Kind::Paragraph;
        match line {
            Line::Fence(opening) => {
                document.code_blocks += 1;
                fence = Some(opening);
            }
            Line::Heading(words) => document.add(Kind::Heading, words),
            Line::TableRow(cells) => document.add(Kind::TableRow, &row(cells)),
            Line::ListItem(words) => {
                kind = Kind::ListItem;
                block.push_str(words);
            }
            Line::Text(_) | Line::Blank | Line::Underline | Line::Ornament => {}
        }
    }
    document.add(kind, &block);
    document
}

fn classify(line: &str) -> Line<'_> {
    let first = match line.chars().next() {
        None => return Line::Blank,
        Some(first) => first,
    };
    let after = line.trim_start_matches(first);
    let run = line.len() - after.len();
    match first {
        '`' | '~' if run >= 3 && !after.contains('`') => Line::Fence(&line[..run]),
        '=' | '-' if after.is_empty() && (run > 1 || first == '=') => Line::Underline,
        '*' | '-' | '_' | '|' | ':' if run < line.len() && is_ornament(line) => Line::Ornament,
        '*' | '_' if run > 2 && after.is_empty() => Line::Ornament,
        '#' if run <= 6 && (after.is_empty() || after.starts_with(' ')) => {
            Line::Heading(after.trim_end_matches(['#', ' ']).trim_start())
        }
        '-' | '*' | '+' | '•' if run == first.len_utf8() && after.starts_with(' ') => Line::ListItem(item(after)),
        '0'..='9' => numbered_item(line).map_or(Line::Text(line), Line::ListItem),
        '|' => Line::TableRow(line),
        '[' if is_link_definition(line) => Line::Ornament,
        _ => Line::Text(line),
    }
}

/// A rule such as `* * *`, or the line under a table's head: three marks at least and nothing but marks.
fn is_ornament(line: &str) -> bool {
    line.chars().all(|c| matches!(c, '-' | '*' | '_' | '|' | ':' | ' '))
        && line.chars().filter(|c| matches!(c, '-' | '*' | '_')).count() >= 3
}

/// `[name]: https://...`, which a reader never sees.
fn is_link_definition(line: &str) -> bool {
    match line.find("]:") {
        Some(end) => !line[1..end].contains(']') && !line[end + 2..].trim_start().contains(' '),
        None => false,
    }
}

/// A list item without its task box.
fn item(words: &str) -> &str {
    let words = words.trim_start();
    ["[ ] ", "[x] ", "[X] "].iter().find_map(|task| words.strip_prefix(task)).unwrap_or(words)
}

fn numbered_item(line: &str) -> Option<&str> {
    let after = line.trim_start_matches(|c: char| c.is_ascii_digit());
    let words = after.strip_prefix(". ").or_else(|| after.strip_prefix(") "))?;
    if line.len() - after.len() <= 3 { Some(item(words)) } else { None }
}

fn row(cells: &str) -> String {
    let cells: Vec<&str> = cells.split('|').map(str::trim).filter(|cell| !cell.is_empty()).collect();
    cells.join(", ")
}

/// What a block's markup covers, in order.
fn cuts(block: &str) -> Vec<Range<usize>> {
    let bytes = block.as_bytes();
    let mut cuts = Vec::new();
    let mut brackets: Vec<usize> = Vec::new();
    let mut emphases: Vec<Range<usize>> = Vec::new();
    let mut at = 0;
    while let Some(offset) = bytes[at..].iter().position(is_mark) {
        at += offset;
        let run = at..at + bytes[at..].iter().take_while(|&&b| b == bytes[at]).count();
        at = match bytes[at] {
            b'\\' if bytes.get(at + 1).map_or(false, u8::is_ascii_punctuation) => {
                cuts.push(at..at + 1);
                at + 2
            }
            b'`' => match find(block, run.end, &block[run.clone()]) {
                Some(close) => {
                    let close = close..close + run.len();
                    cuts.extend([run, close.clone()]);
                    close.end
                }
                None => run.end,
            },
            b'<' => match tag(block, at) {
                Some(end) if is_address(&block[at + 1..end - 1]) => {
                    cuts.extend([at..at + 1, end - 1..end]);
                    end
                }
                Some(end) => {
                    cuts.push(at..end);
                    end
                }
                None => at + 1,
            },
            b'[' => {
                brackets.push(at);
                at + 1
            }
            b']' => match (brackets.pop(), link_tail(block, at)) {
                (Some(open), Some(end)) => {
                    let open = if open > 0 && bytes[open - 1] == b'!' { open - 1..open + 1 } else { open..open + 1 };
                    cuts.extend([open, at..end]);
                    end
                }
                _ => at + 1,
            },
            b'*' | b'_' | b'~' => {
                let end = run.end;
                emphasis(block, run, &mut emphases, &mut cuts);
                end
            }
            _ => at + 1, // a backslash that escapes nothing
        };
    }
    cuts.sort_by_key(|cut| cut.start);
    cuts
}

fn is_mark(byte: &u8) -> bool {
    matches!(byte, b'\\' | b'`' | b'<' | b'[' | b']' | b'*' | b'_' | b'~')
}

/// A run of `*`, `_` or `~` closes the nearest open run of its like, or opens one. Inside a word, and between spaces,
/// it is a character as any other.
fn emphasis(block: &str, run: Range<usize>, open: &mut Vec<Range<usize>>, cuts: &mut Vec<Range<usize>>) {
    let before = block[..run.start].chars().next_back().unwrap_or(' ');
    let after = block[run.end..].chars().next().unwrap_or(' ');
    if !before.is_whitespace() && !after.is_alphanumeric() {
        if let Some(index) = open.iter().rposition(|opening| block[opening.clone()] == block[run.clone()]) {
            cuts.extend([open[index].clone(), run]);
            open.truncate(index);
            return;
        }
    }
    if !after.is_whitespace() && !before.is_alphanumeric() {
        open.push(run);
    }
}

/// Where the rest of a link ends whose text ends at the `]` at `at`: `](address "title")` or `][name]`.
fn link_tail(block: &str, at: usize) -> Option<usize> {
    match block.as_bytes().get(at + 1)? {
        b'(' => find(block, at + 2, ")").map(|end| end + 1),
        b'[' => find(block, at + 2, "]").map(|end| end + 1),
        _ => None,
    }
}

/// Where the tag, comment or `<address>` that begins at `at` ends.
fn tag(block: &str, at: usize) -> Option<usize> {
    if block[at..].starts_with("<!--") {
        return find(block, at + 4, "-->").map(|end| end + 3);
    }
    let name = *block.as_bytes().get(at + 1)?;
    if name != b'/' && !name.is_ascii_alphabetic() {
        return None;
    }
    find(block, at + 1, ">").map(|end| end + 1)
}

fn is_address(inside: &str) -> bool {
    inside.contains("://") && !inside.contains(' ') || inside.starts_with("mailto:")
}

fn find(block: &str, from: usize, what: &str) -> Option<usize> {
    let end = (from..=block.len().min(from + REACH)).rev().find(|&end| block.is_char_boundary(end))?;
    block.get(from..end)?.find(what).map(|offset| from + offset)
}

/// Append `block` without `cuts`, and with no space doubled by them. Whether anything was left to write.
fn push_without(out: &mut String, block: &str, cuts: &[Range<usize>]) -> bool {
    let start = out.len();
    let mut from = 0;
    for cut in cuts.iter().cloned().chain([block.len()..block.len()]) {
        let piece = block.get(from..cut.start).unwrap_or("");
        let doubled = out.len() == start || out.ends_with(' ');
        out.push_str(if doubled { piece.trim_start() } else { piece });
        from = from.max(cut.end);
    }
    out.truncate(start + out[start..].trim_end().len());
    out.len() > start
}
