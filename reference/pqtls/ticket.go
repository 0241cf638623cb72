package pqtls

import (
	"bytes"
	"crypto/tls"
)

// classTag marks the element of SessionState.Extra that holds the class, as crypto/tls asks those who
// add elements to do.
const classTag = "assay pqtls class "

// bindTickets makes tickets resume only in the class of group that they were issued in. crypto/tls
// would take a ticket of a hybrid handshake under X25519: the new keys would still come from the old
// secret, but the fresh key exchange would be a classical one without anybody noticing.
func bindTickets(c *tls.Config) {
	c.WrapSession = func(state tls.ConnectionState, session *tls.SessionState) ([]byte, error) {
		session.Extra = append(session.Extra, classMark(state.CurveID))
		return c.EncryptTicket(state, session)
	}
	c.UnwrapSession = func(identity []byte, state tls.ConnectionState) (*tls.SessionState, error) {
		session, err := c.DecryptTicket(identity, state)
		if err != nil || session == nil || !bound(session, state.CurveID) {
			return nil, nil // a full handshake follows
		}
		return session, nil
	}
}

func classMark(group tls.CurveID) []byte { return append([]byte(classTag), byte(ClassOf(group))) }

// bound reports whether a session was made in the class of group.
func bound(session *tls.SessionState, group tls.CurveID) bool {
	want := classMark(group)
	for _, extra := range session.Extra {
		if bytes.Equal(extra, want) {
			return true
		}
	}
	return false
}
