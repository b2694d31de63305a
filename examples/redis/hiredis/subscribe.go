// SPDX-License-Identifier: BSD-3-Clause

package hiredis

import (
	"errors"
	"fmt"
)

// Message is what the closure of a subscription gets.
type Message struct {
	Kind    string // "subscribe" first, then "message", and last "unsubscribe"
	Channel string
	Payload string // of a "message"
}

// Subscribe calls message for everything that is published on a channel. It calls message
// first when the subscription begins, and last when Unsubscribe has ended it, or with an
// error when the connection ends. A client with subscriptions refuses other commands.
// Wraps redisAsyncFormattedCommand.
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

// Unsubscribe ends a subscription. Messages may still come until its closure gets the
// "unsubscribe".
// Wraps redisAsyncFormattedCommand.
func (c *Client) Unsubscribe(channel string) error {
	if err := c.usable(); err != nil {
		return err
	}
	leaving, ok := c.subs[channel]
	if !ok || leaving { // hiredis would abort when the answer to a second one comes
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
