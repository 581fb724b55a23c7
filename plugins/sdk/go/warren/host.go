package warren

import (
	"encoding/json"
	"fmt"
)

const (
	levelTrace int32 = iota
	levelDebug
	levelInfo
	levelWarn
	levelError
)

// Tracef writes a line into the log of this run; its like do so at other levels.
func Tracef(format string, args ...any) { log(levelTrace, fmt.Sprintf(format, args...)) }

// Debugf writes a line into the log of this run.
func Debugf(format string, args ...any) { log(levelDebug, fmt.Sprintf(format, args...)) }

// Infof writes a line into the log of this run.
func Infof(format string, args ...any) { log(levelInfo, fmt.Sprintf(format, args...)) }

// Warnf writes a line into the log of this run.
func Warnf(format string, args ...any) { log(levelWarn, fmt.Sprintf(format, args...)) }

// Errorf writes a line into the log of this run; it makes no error.
func Errorf(format string, args ...any) { log(levelError, fmt.Sprintf(format, args...)) }

// HostError is why the host did not do what it was asked for. Code is for programs, such as invalid_arguments.
type HostError struct {
	Code    string `json:"code"`
	Message string `json:"message"`
}

func (e *HostError) Error() string { return fmt.Sprintf("%s (%s)", e.Message, e.Code) }

// HostCall calls a host function:
//
//	user, err := warren.HostCall[User]("storage_get", map[string]any{"key": "users/1"})
//
// The host refuses with a *HostError. What a plugin was not granted is no error: its run ends as denied.
func HostCall[Value any](name string, args any) (Value, error) {
	var reply struct {
		Ok    Value      `json:"ok"`
		Error *HostError `json:"error"`
	}
	body, err := json.Marshal(args)
	if err != nil {
		return reply.Ok, fmt.Errorf("the arguments of %s: %w", name, err)
	}
	if err := json.Unmarshal(hostCall(name, body), &reply); err != nil {
		return reply.Ok, fmt.Errorf("the host's answer to %s: %w", name, err)
	}
	if reply.Error != nil {
		return reply.Ok, reply.Error
	}
	return reply.Ok, nil
}

// Publish publishes an event for whoever subscribes to the topic. It is sent once this run has ended well.
func Publish(topic string, payload any) error {
	_, err := HostCall[any]("send_message", map[string]any{"to": nil, "topic": topic, "payload": payload})
	return err
}

// Send sends a message to one plugin, which gets it as the action on_message, once this run has ended well.
func Send(to, topic string, payload any) error {
	_, err := HostCall[any]("send_message", map[string]any{"to": to, "topic": topic, "payload": payload})
	return err
}
