// {{name}}: greets, and counts words. Every request runs in an instance of its own.
package main

import (
	"errors"
	"strings"

	"warren"
)

type person struct {
	Name string `json:"name"`
}

type greeting struct {
	Greeting string `json:"greeting"`
}

type text struct {
	Text string `json:"text"`
}

type words struct {
	Words int `json:"words"`
}

func init() {
	warren.Handle("greet", greet)
	warren.Handle("count", count)
	warren.Handle("on_message", onMessage)
}

func main() {} // Never called; the host calls what init has registered.

// {"name": "Ada"} is answered with {"greeting": "Hello, Ada!"}.
func greet(data person) (greeting, error) {
	if data.Name == "" {
		return greeting{}, errors.New("there is nobody to greet")
	}
	warren.Infof("greeting %s", data.Name)
	return greeting{"Hello, " + data.Name + "!"}, nil
}

func count(data text) (words, error) {
	return words{len(strings.Fields(data.Text))}, nil
}

// An event of a topic in [bus] subscribe: whoever comes is greeted, for all to hear.
func onMessage(message warren.Message[person]) (any, error) {
	said, err := greet(message.Payload)
	if err != nil {
		return nil, err
	}
	return nil, warren.Publish("greetings", said)
}
