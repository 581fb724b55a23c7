//! Everything that the SDK has, once: what each action must do stands in cases.json.
const warren = @import("warren");

pub const panic = warren.panic;

var setting: []const u8 = "";

fn configure(config: struct { settings: struct { word: ?[]const u8 = null } }) !void {
    setting = config.settings.word orelse return warren.fail("there is no word in the settings", .{});
}

fn echo(data: warren.Value) !warren.Value {
    return data;
}

fn word(_: warren.Value) ![]const u8 {
    return setting;
}

fn log(data: []const u8) !void {
    inline for (.{ .trace, .debug, .info, .warn, .err }) |level| warren.log(level, "{s}", .{data});
}

fn call(data: struct { name: []const u8, args: warren.Value }) !warren.Value {
    return warren.hostCall(warren.Value, data.name, data.args);
}

fn send(data: struct { to: ?[]const u8 = null, topic: []const u8, payload: warren.Value }) !void {
    if (data.to) |to| try warren.send(to, data.topic, data.payload) else try warren.publish(data.topic, data.payload);
}

fn onMessage(one: warren.Message(warren.Value)) !struct { []const u8, ?[]const u8, []const u8, warren.Value, []const u8 } {
    return .{ one.from, one.to, one.topic, one.payload, one.timestamp };
}

fn refuse(data: []const u8) !void {
    return warren.fail("{s}", .{data});
}

fn crash(data: []const u8) !void {
    @panic(data);
}

comptime {
    warren.initialize(configure);
    warren.plugin(.{
        .echo = echo,
        .word = word,
        .log = log,
        .call = call,
        .send = send,
        .on_message = onMessage,
        .refuse = refuse,
        .crash = crash,
    });
}
