// Package warren makes a Go program a Warren plugin: functions by action, JSON in and out, and no pointer.
//
//	func init() {
//		warren.Handle("greet", greet)
//	}
//
//	func greet(data Greet) (Greeting, error) {
//		if data.Name == "" {
//			return Greeting{}, errors.New("there is nobody to greet")
//		}
//		warren.Infof("greeting %s", data.Name)
//		return Greeting{"Hello, " + data.Name + "!"}, nil
//	}
//
//	func main() {}
//
// A function takes the request's data as any type that encoding/json reads, and answers with any that it writes. Its
// error becomes the request's: {"success": false, "error": "there is nobody to greet"}. A panic is a bug: its text and
// stack go to the log, and the run ends as a trap.
//
// Every request runs in an instance of its own: what is kept in a variable is gone with it.
package warren

import (
	"encoding/json"
	"fmt"
)

var (
	actions    = map[string]func(json.RawMessage) (any, error){}
	initialize = func(json.RawMessage) error { return nil }
	healthy    = func() bool { return true }
)

// Handle has a function answer an action. The action on_message is given a Message.
func Handle[Data, Result any](action string, answer func(Data) (Result, error)) {
	actions[action] = func(raw json.RawMessage) (any, error) {
		var data Data
		if err := unmarshal(raw, &data); err != nil {
			return nil, fmt.Errorf("the data of %s: %w", action, err)
		}
		return answer(data)
	}
}

// Initialize has a function take the plugin's configuration before its first request; an error fails the load.
func Initialize[Settings any](take func(Config[Settings]) error) {
	initialize = func(raw json.RawMessage) error {
		var config Config[Settings]
		if err := unmarshal(raw, &config); err != nil {
			return fmt.Errorf("the configuration cannot be read: %w", err)
		}
		return take(config)
	}
}

// HealthCheck has a function say whether the plugin is healthy.
func HealthCheck(check func() bool) {
	healthy = check
}

// Message is what the action on_message is given: an event of a topic that the manifest subscribes to, or what another
// plugin sent to this one. To is nil for an event; Timestamp is such as 2026-03-01T12:00:00.000Z.
type Message[Payload any] struct {
	From      string  `json:"from"`
	To        *string `json:"to"`
	Topic     string  `json:"topic"`
	Payload   Payload `json:"payload"`
	Timestamp string  `json:"timestamp"`
}

// Config is what Initialize is given: [settings] of the manifest, the names of what was granted, and the environment.
type Config[Settings any] struct {
	Settings     Settings          `json:"settings"`
	Capabilities []string          `json:"capabilities"`
	Environment  map[string]string `json:"environment"`
}

type answer struct {
	Success bool    `json:"success"`
	Result  any     `json:"result"`
	Error   *string `json:"error"`
}

// answerTo is the answer to a request, as JSON.
func answerTo(request []byte) []byte {
	result, err := run(request)
	if err == nil {
		var body []byte
		if body, err = json.Marshal(answer{Success: true, Result: result}); err == nil {
			return body
		}
	}
	problem := err.Error()
	body, _ := json.Marshal(answer{Error: &problem})
	return body
}

func run(body []byte) (any, error) {
	var request struct {
		Action string          `json:"action"`
		Data   json.RawMessage `json:"data"`
	}
	if err := json.Unmarshal(body, &request); err != nil {
		return nil, fmt.Errorf("the request cannot be read: %w", err)
	}
	answer, known := actions[request.Action]
	if !known {
		return nil, fmt.Errorf("unknown action: %s", request.Action)
	}
	return answer(request.Data)
}

// unmarshal leaves the value as it is where there is no JSON.
func unmarshal(raw json.RawMessage, value any) error {
	if len(raw) == 0 {
		return nil
	}
	return json.Unmarshal(raw, value)
}
