package chatclient_test

import (
	"fmt"
	"testing"

	"kafkachat/chatserver/internal/chatclient"
)

const (
	fresh  = `{"type":"welcome","pod":"a","resumed":false,"reason":"fresh","kafka":"up"}`
	back   = `{"type":"welcome","pod":"b","resumed":true,"kafka":"up"}`
	isLive = `{"type":"live","position":""}`
)

func TestSendsWhenLiveAndResendsWhatTheReplayDoesNotShow(t *testing.T) {
	t.Parallel()
	s := newStage(t, false)
	first := s.comes()
	if first.query != "last=100" {
		t.Errorf("the first query is %q", first.query)
	}
	for _, text := range []string{"one", "two", "three"} {
		if !s.client.Say(text) {
			t.Fatal("the outbox is full")
		}
	}
	first.say(fresh)
	first.say(isLive)
	one, text := first.hears()
	two, _ := first.hears()
	three, _ := first.hears()
	if text != "one" {
		t.Errorf("the first message is %q", text)
	}
	first.say(`{"type":"message","offset":7,"position":"7.aa","id":%q,"text":"one"}`, one)
	s.pending(2)
	first.leave()

	second := s.comes()
	if second.query != "after=7.aa" {
		t.Errorf("the query of a client that comes back is %q", second.query)
	}
	second.say(back)
	second.say(`{"type":"message","offset":8,"position":"8.bb","id":%q,"text":"two"}`, two)
	second.say(isLive)
	if id, text := second.hears(); id != three || text != "three" {
		t.Errorf("resent is %s %q, want only %s", id, text, three)
	}
	second.say(`{"type":"ack","id":%q,"offset":9}`, three)
	second.say(`{"type":"message","offset":9,"position":"9.cc","id":%q,"text":"three"}`, three)
	s.pending(0)
}

func TestAsksThePersonWhereHistoryIsLost(t *testing.T) {
	t.Parallel()
	for name, lose := range map[string]func(s *stage, v *visit) *visit{
		"reset in the stream": func(_ *stage, v *visit) *visit { v.say(`{"type":"reset"}`); return v },
		"gap in the stream":   func(_ *stage, v *visit) *visit { v.say(`{"type":"gap","missing":3}`); return v },
		"another log": func(s *stage, v *visit) *visit {
			v.leave()
			v = s.comes()
			v.say(`{"type":"welcome","pod":"b","resumed":false,"reason":"reset","kafka":"up"}`)
			v.say(isLive)
			return v
		},
		"fresh again": func(s *stage, v *visit) *visit { v.leave(); v = s.comes(); v.say(fresh); v.say(isLive); return v },
	} {
		for _, again := range []bool{false, true} {
			t.Run(fmt.Sprint(name, ", again ", again), func(t *testing.T) {
				t.Parallel()
				s := newStage(t, again)
				v := s.comes()
				v.say(fresh)
				v.say(isLive)
				s.client.Say("one")
				one, _ := v.hears()
				v = lose(s, v)
				if e := s.seen(chatclient.Unsure); e.ID != one {
					t.Errorf("asked about %s, want %s", e.ID, one)
				}
				if !again {
					s.pending(0)
					return
				}
				if id, _ := v.hears(); id != one {
					t.Errorf("sent again is %s, want %s", id, one)
				}
			})
		}
	}
}

func TestForgetsThePositionAfterAReset(t *testing.T) {
	t.Parallel()
	s := newStage(t, false)
	v := s.comes()
	v.say(fresh)
	v.say(`{"type":"message","offset":7,"position":"7.aa","text":"x"}`)
	v.say(isLive)
	v.say(`{"type":"reset"}`)
	s.seen(chatclient.Reset)
	v.leave()
	if v = s.comes(); v.query != "last=100" {
		t.Errorf("after a reset the query is %q", v.query)
	}
}

func TestARejectedMessageIsDoneWith(t *testing.T) {
	t.Parallel()
	s := newStage(t, false)
	v := s.comes()
	v.say(fresh)
	v.say(isLive)
	s.client.Say("one")
	id, _ := v.hears()
	v.say(`{"type":"reject","id":%q,"reason":"no"}`, id)
	if e := s.seen(chatclient.Rejected); e.ID != id || e.Reason != "no" {
		t.Errorf("observed %+v", e)
	}
	s.pending(0)
}

func TestComesBackWhenAskedTo(t *testing.T) {
	t.Parallel()
	s := newStage(t, false)
	v := s.comes()
	v.say(fresh)
	v.say(isLive)
	v.say(`{"type":"reconnect","within_ms":50}`)
	s.seen(chatclient.SentAway)
	// It does not wait for the pod to close, and keeps what it says for the next one.
	s.client.Say("one")
	next := s.comes()
	next.say(back)
	next.say(isLive)
	if _, text := next.hears(); text != "one" {
		t.Errorf("said %q", text)
	}
}

func TestTheOutboxIsBounded(t *testing.T) {
	t.Parallel()
	s := newStage(t, false)
	s.comes()
	said := 0
	for range 100 {
		if s.client.Say("x") {
			said++
		}
	}
	if said != 40 {
		t.Errorf("%d messages wait, want 40", said)
	}
}

func TestCutAndHopConnectAnew(t *testing.T) {
	t.Parallel()
	s := newStage(t, false)
	for _, do := range []func(){s.client.Cut, s.client.Hop} {
		v := s.comes()
		v.say(fresh)
		s.seen(chatclient.Welcomed)
		do()
		s.seen(chatclient.Left)
	}
	s.comes()
}

func TestAClientThatDoesNotReadGoesOnLater(t *testing.T) {
	t.Parallel()
	s := newStage(t, false)
	v := s.comes()
	v.say(fresh)
	v.say(isLive)
	s.seen(chatclient.Live)
	s.client.Read(false)
	for i := range 10 {
		v.say(`{"type":"message","offset":%d,"position":"%d.aa","text":"x"}`, i, i)
	}
	s.client.Read(true)
	for i := range 10 {
		if e := s.seen(chatclient.Message); e.Offset != int64(i) {
			t.Errorf("message %d has offset %d", i, e.Offset)
		}
	}
}
