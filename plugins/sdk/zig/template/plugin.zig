//! {{name}}: greets, and counts words. Every request runs in an instance of its own, so nothing has to be freed.
const std = @import("std");
const warren = @import("warren/warren.zig");

pub const panic = warren.panic;

const Person = struct { name: []const u8 = "" };
const Greeting = struct { greeting: []const u8 };

/// {"name": "Ada"} is answered with {"greeting": "Hello, Ada!"}.
fn greet(person: Person) !Greeting {
    if (person.name.len == 0) return warren.fail("there is nobody to greet", .{});
    warren.info("greeting {s}", .{person.name});
    return .{ .greeting = try warren.print("Hello, {s}!", .{person.name}) };
}

fn count(data: struct { text: []const u8 }) !struct { words: usize } {
    var words: usize = 0;
    var each = std.mem.tokenizeAny(u8, data.text, " \n\t");
    while (each.next()) |_| words += 1;
    return .{ .words = words };
}

/// An event of a topic in [bus] subscribe: whoever comes is greeted, for all to hear.
fn onMessage(message: warren.Message(Person)) !void {
    try warren.publish("greetings", try greet(message.payload));
}

comptime {
    warren.plugin(.{ .greet = greet, .count = count, .on_message = onMessage });
}
