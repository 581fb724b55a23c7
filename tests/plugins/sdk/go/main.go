// Everything that the SDK has, once: what each action must do stands in cases.json.
package main

import (
	"errors"

	"warren"
)

type settings struct {
	Word *string `json:"word"`
}

type call struct {
	Name string `json:"name"`
	Args any    `json:"args"`
}

type sending struct {
	To      *string `json:"to"`
	Topic   string  `json:"topic"`
	Payload any     `json:"payload"`
}

func main() {}

func init() {
	word := ""

	warren.Initialize(func(config warren.Config[settings]) error {
		if config.Settings.Word == nil {
			return errors.New("there is no word in the settings")
		}
		word = *config.Settings.Word
		return nil
	})
	warren.HealthCheck(func() bool { return word != "ill" })

	warren.Handle("echo", func(data any) (any, error) { return data, nil })
	warren.Handle("word", func(any) (string, error) { return word, nil })
	warren.Handle("log", func(data string) (any, error) {
		warren.Tracef("%s", data)
		warren.Debugf("%s", data)
		warren.Infof("%s", data)
		warren.Warnf("%s", data)
		warren.Errorf("%s", data)
		return nil, nil
	})
	warren.Handle("call", func(data call) (any, error) { return warren.HostCall[any](data.Name, data.Args) })
	warren.Handle("send", func(data sending) (any, error) {
		if data.To == nil {
			return nil, warren.Publish(data.Topic, data.Payload)
		}
		return nil, warren.Send(*data.To, data.Topic, data.Payload)
	})
	warren.Handle("on_message", func(data warren.Message[any]) (any, error) {
		return []any{data.From, data.To, data.Topic, data.Payload, data.Timestamp}, nil
	})
	warren.Handle("refuse", func(data string) (any, error) { return nil, errors.New(data) })
	warren.Handle("crash", func(data string) (any, error) { panic(data) })
}
