package hiredis

import (
	"errors"
	"fmt"
)

// Message is what a subscription gets.
type Message struct {
	Kind    string // "subscribe" when it begins, "message", "unsubscribe" when it has ended
	Channel string
	Payload string // of a message
}

// subscription is one to a channel.
// Subscribe calls message for everything that is published on a channel; first when the
// subscription begins, and last when Unsubscribe has ended it or, with an error, when the
// connection ends. Until then only Subscribe and Unsubscribe can be used.
// Loop goroutine only, or any while no loop runs. Wraps redisAsyncFormattedCommand.
func (c *Client) Subscribe(message func(Message, error), channel string) error {
	if message == nil {
		return errors.New("hiredis: message is nil")
	}
	if _, ok := c.subs[channel]; ok {
		return fmt.Errorf("hiredis: subscribed to %q already", channel)
	}
	id := c.last + 1
	err := c.send(call{stays: true, reply: func(value any, err error) {
		m := asMessage(value)
		if err != nil || m.Kind == "unsubscribe" {
			delete(c.pending, id)
			delete(c.subs, channel)
		}
		message(m, err)
	}}, "SUBSCRIBE", channel)
	if err == nil {
		c.subs[channel] = false
	}
	return err
}

// Unsubscribe ends a subscription. Messages may come until its closure is told.
// Loop goroutine only, or any while no loop runs. Wraps redisAsyncFormattedCommand.
func (c *Client) Unsubscribe(channel string) error {
	if err := c.usable(); err != nil {
		return err
	}
	leaving, ok := c.subs[channel]
	if !ok || leaving { // hiredis would take a second answer for nobody's, and abort
		return fmt.Errorf("hiredis: not subscribed to %q", channel)
	}
	err := c.write(0, "UNSUBSCRIBE", channel)
	c.subs[channel] = err == nil
	return err
}

func asMessage(value any) (m Message) {
	if fields, ok := value.([]any); ok && len(fields) == 3 {
		m.Kind, _ = fields[0].(string)
		m.Channel, _ = fields[1].(string)
		m.Payload, _ = fields[2].(string)
	}
	return m
}
