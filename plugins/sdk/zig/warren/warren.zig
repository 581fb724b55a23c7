//! Warren plugins in Zig: functions by action, JSON in and out, and no pointer to pack.
//!
//!     const warren = @import("warren/warren.zig");
//!
//!     fn greet(data: struct { name: []const u8 }) !struct { greeting: []const u8 } {
//!         if (data.name.len == 0) return warren.fail("there is nobody to greet", .{});
//!         warren.info("greeting {s}", .{data.name});
//!         return .{ .greeting = try warren.print("Hello, {s}!", .{data.name}) };
//!     }
//!
//!     comptime {
//!         warren.plugin(.{ .greet = greet });
//!     }
//!
//! A function takes the request's `data` as any type that std.json reads, and answers with any that it writes; a default
//! value makes a field optional, and what the type does not name is passed over. An error becomes the request's, with
//! the words of `fail`. A panic is a bug: its text goes to the log, and the run ends as a trap.
//!
//! An instance serves one request and is gone: `allocator` never has to be given anything back.

const std = @import("std");

pub const allocator = std.heap.wasm_allocator;

/// Any JSON: for data whose shape is not known beforehand.
pub const Value = std.json.Value;

/// What the action `on_message` is given: an event of a topic that the manifest subscribes to, or what another plugin
/// sent to this one. `to` is null for an event.
pub fn Message(comptime Payload: type) type {
    return struct {
        from: []const u8,
        to: ?[]const u8 = null,
        topic: []const u8,
        payload: Payload,
        timestamp: []const u8,
    };
}

pub const Level = enum(i32) { trace, debug, info, warn, err };

var failure: ?[]const u8 = null;

/// The error to return when a request fails, in words for whoever asked.
pub fn fail(comptime format: []const u8, values: anytype) error{Failed} {
    failure = print(format, values) catch "out of memory";
    return error.Failed;
}

/// Text, as std.fmt formats it.
pub fn print(comptime format: []const u8, values: anytype) error{OutOfMemory}![]u8 {
    return std.fmt.allocPrint(allocator, format, values);
}

/// Write a line into this run's log.
pub fn log(level: Level, comptime format: []const u8, values: anytype) void {
    say(level, print(format, values) catch "out of memory");
}

pub fn debug(comptime format: []const u8, values: anytype) void {
    log(.debug, format, values);
}

pub fn info(comptime format: []const u8, values: anytype) void {
    log(.info, format, values);
}

pub fn warn(comptime format: []const u8, values: anytype) void {
    log(.warn, format, values);
}

pub fn err(comptime format: []const u8, values: anytype) void {
    log(.err, format, values);
}

/// Call a host function, `hostCall(?[]const u8, "storage_get", .{ .key = "users/1" })`, whose answer is read as a `T`.
/// What the host refuses is an error with its words; what a plugin was not granted is none: its run ends as `denied`.
pub fn hostCall(comptime T: type, name: []const u8, arguments: anytype) !T {
    const args = try std.json.Stringify.valueAlloc(allocator, arguments, .{});
    const body = unpack(import.host_call(name.ptr, name.len, args.ptr, args.len));
    const Refusal = struct { code: []const u8, message: []const u8 };
    const reply = try read(struct { ok: Value = .null, @"error": ?Refusal = null }, body);
    if (reply.@"error") |refused| return fail("{s} ({s})", .{ refused.message, refused.code });
    return std.json.parseFromValueLeaky(T, allocator, reply.ok, options);
}

/// Publish an event for whoever subscribes to its topic. It is sent once this run has ended well.
pub fn publish(topic: []const u8, payload: anytype) !void {
    try sendTo(null, topic, payload);
}

/// Send a message to one plugin, which gets it as the action `on_message`, once this run has ended well.
pub fn send(to: []const u8, topic: []const u8, payload: anytype) !void {
    try sendTo(to, topic, payload);
}

/// Make these functions, a struct of them by their actions, the plugin. To be called once, at comptime.
pub fn plugin(comptime actions: anytype) void {
    const exports = struct {
        fn allocate(len: usize) callconv(.c) ?[*]u8 {
            return (allocator.alloc(u8, @max(len, 1)) catch @panic("out of memory")).ptr;
        }

        fn handleRequest(at: [*]const u8, len: usize) callconv(.c) u64 {
            const answer = answerTo(actions, at[0..len]) catch @panic("out of memory");
            return @as(u64, @intFromPtr(answer.ptr)) << 32 | answer.len;
        }
    };
    @export(&exports.allocate, .{ .name = "allocate" });
    @export(&exports.handleRequest, .{ .name = "handle_request" });
}

/// Have a function take the plugin's configuration when it is loaded, `fn (struct { settings: Settings }) !void`; an
/// error fails the load, its words in the log. To be called once, at comptime.
pub fn initialize(comptime function: anytype) void {
    const exports = struct {
        fn start(at: [*]const u8, len: usize) callconv(.c) i32 {
            const config = read(DataOf(function), at[0..len]) catch |problem| return refuse(problem);
            function(config) catch |problem| return refuse(problem);
            return 0;
        }

        fn refuse(problem: anyerror) i32 {
            say(.err, reason(problem));
            return 1;
        }
    };
    @export(&exports.start, .{ .name = "initialize" });
}

/// For the plugin's own root file: `pub const panic = warren.panic;` has a panic's text logged.
pub const panic = std.debug.FullPanic(struct {
    fn call(text: []const u8, _: ?usize) noreturn {
        say(.err, text);
        @trap();
    }
}.call);

const options: std.json.ParseOptions = .{ .ignore_unknown_fields = true, .allocate = .alloc_if_needed };

const Request = struct { action: []const u8, data: Value = .null };

fn read(comptime T: type, text: []const u8) !T {
    return std.json.parseFromSliceLeaky(T, allocator, text, options);
}

fn DataOf(comptime function: anytype) type {
    return @FieldType(std.meta.ArgsTuple(@TypeOf(function)), "0");
}

fn answerTo(comptime actions: anytype, body: []const u8) ![]u8 {
    const request = read(Request, body) catch |problem| {
        return refusal(try print("the request cannot be read: {s}", .{@errorName(problem)}));
    };
    inline for (comptime std.meta.fieldNames(@TypeOf(actions))) |name| {
        if (std.mem.eql(u8, name, request.action)) return run(@field(actions, name), name, request.data);
    }
    return refusal(try print("unknown action: {s}", .{request.action}));
}

fn run(comptime function: anytype, name: []const u8, value: Value) ![]u8 {
    const data = std.json.parseFromValueLeaky(DataOf(function), allocator, value, options) catch |problem| {
        return refusal(try print("the data of {s} cannot be read: {s}", .{ name, @errorName(problem) }));
    };
    const result = function(data) catch |problem| return refusal(reason(problem));
    // std.json has no words for what a function gives back that gives nothing.
    const given = if (@TypeOf(result) == void) null else result;
    return std.json.Stringify.valueAlloc(allocator, .{ .success = true, .result = given, .@"error" = null }, .{});
}

fn refusal(words: []const u8) error{OutOfMemory}![]u8 {
    return std.json.Stringify.valueAlloc(allocator, .{ .success = false, .result = null, .@"error" = words }, .{});
}

fn reason(problem: anyerror) []const u8 {
    return if (problem == error.Failed) failure orelse "failed" else @errorName(problem);
}

fn sendTo(to: ?[]const u8, topic: []const u8, payload: anytype) !void {
    _ = try hostCall(Value, "send_message", .{ .to = to, .topic = topic, .payload = payload });
}

fn say(level: Level, text: []const u8) void {
    import.log(@intFromEnum(level), text.ptr, text.len);
}

fn unpack(packed_text: u64) []const u8 {
    const at: [*]const u8 = @ptrFromInt(@as(usize, @intCast(packed_text >> 32)));
    return at[0..@as(u32, @truncate(packed_text))];
}

const import = struct {
    extern "warren_v1" fn log(level: i32, at: [*]const u8, len: usize) void;
    extern "warren_v1" fn host_call(name: [*]const u8, name_len: usize, args: [*]const u8, args_len: usize) u64;
};
