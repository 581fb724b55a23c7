//! word_count: how many words a text has, and which it has most often.
const std = @import("std");
const warren = @import("warren");

pub const panic = warren.panic;

/// How many of the most frequent words are told.
const most = 5;

const Frequency = struct {
    word: []const u8,
    count: usize,

    fn isBefore(_: void, a: Frequency, b: Frequency) bool {
        return if (a.count != b.count) a.count > b.count else std.mem.lessThan(u8, a.word, b.word);
    }
};

const Words = struct { words: usize, distinct: usize, most_frequent: []const Frequency };

fn count(data: struct { text: []const u8 }) !Words {
    const text = try std.ascii.allocLowerString(warren.allocator, data.text);
    var counts: std.StringArrayHashMapUnmanaged(usize) = .empty;
    var words: usize = 0;
    var start: usize = 0;
    for (0..text.len + 1) |end| {
        if (end < text.len and isInWord(text[end])) continue;
        if (end > start) {
            const entry = try counts.getOrPutValue(warren.allocator, text[start..end], 0);
            entry.value_ptr.* += 1;
            words += 1;
        }
        start = end + 1;
    }
    if (words == 0) return warren.fail("there are no words in the text", .{});

    const all = try warren.allocator.alloc(Frequency, counts.count());
    for (all, counts.keys(), counts.values()) |*one, word, times| one.* = .{ .word = word, .count = times };
    std.mem.sortUnstable(Frequency, all, {}, Frequency.isBefore);
    warren.info("{d} words, {d} of them distinct", .{ words, all.len });
    return .{ .words = words, .distinct = all.len, .most_frequent = all[0..@min(most, all.len)] };
}

/// A letter, a digit, or something that is not ASCII.
fn isInWord(c: u8) bool {
    return std.ascii.isAlphanumeric(c) or !std.ascii.isAscii(c);
}

comptime {
    warren.plugin(.{ .count = count });
}
