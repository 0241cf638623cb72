package bent

import (
	"errors"
	"fmt"
	"io"
	"net"
	"time"
)

// The alerts of RFC 9846 section 6 that are sent here.
const (
	alertCloseNotify          = 0
	alertUnexpectedMessage    = 10
	alertBadRecordMAC         = 20
	alertRecordOverflow       = 22
	alertHandshakeFailure     = 40
	alertBadCertificate       = 42
	alertCertificateExpired   = 45
	alertIllegalParameter     = 47
	alertUnknownCA            = 48
	alertDecodeError          = 50
	alertDecryptError         = 51
	alertProtocolVersion      = 70
	alertInternalError        = 80
	alertFallback             = 86
	alertMissingExtension     = 109
	alertUnsupportedExtension = 110
	alertCertificateRequired  = 116
	alertNoApplication        = 120
)

var alertNames = map[uint8]string{
	0: "close_notify", 10: "unexpected_message", 20: "bad_record_mac", 22: "record_overflow",
	40: "handshake_failure", 42: "bad_certificate", 43: "unsupported_certificate", 44: "certificate_revoked",
	45: "certificate_expired", 46: "certificate_unknown", 47: "illegal_parameter", 48: "unknown_ca",
	49: "access_denied", 50: "decode_error", 51: "decrypt_error", 70: "protocol_version",
	71: "insufficient_security", 80: "internal_error", 86: "inappropriate_fallback", 90: "user_canceled",
	109: "missing_extension", 110: "unsupported_extension", 112: "unrecognized_name",
	113: "bad_certificate_status_response", 115: "unknown_psk_identity", 116: "certificate_required",
	120: "no_application_protocol",
}

// AlertError is the end of a connection by an alert, or by what called for one: with a defect
// planted the alert on the wire may be another, or none.
type AlertError struct {
	Code uint8 // of RFC 9846 section 6
	Sent bool  // this side refused the peer; false: the peer refused this side
	Why  string
}

// Error names the alert and its direction.
func (e *AlertError) Error() string {
	if !e.Sent {
		return "tls: received alert " + AlertName(e.Code)
	}
	return fmt.Sprintf("tls: %s (sent alert %s)", e.Why, AlertName(e.Code))
}

// AlertName returns the name of an alert in RFC 9846, for example "illegal_parameter".
func AlertName(code uint8) string {
	if name, known := alertNames[code]; known {
		return name
	}
	return fmt.Sprintf("alert(%d)", code)
}

// refuse makes the error that ends the connection with an alert.
func refuse(code uint8, format string, args ...any) error {
	return &AlertError{Code: code, Sent: true, Why: fmt.Sprintf(format, args...)}
}

func malformed(what string) error { return refuse(alertDecodeError, "malformed %s", what) }

// The ends of a planted defect that sends no alert.
var (
	errHang   = errors.New("tls: planted hang")
	errSilent = errors.New("tls: planted close without an alert")
)

// linger lets the peer read an alert: to close with unread data would reset the connection, and the
// reset may overtake the alert.
func linger(conn net.Conn) {
	half, ok := conn.(interface{ CloseWrite() error })
	if !ok || half.CloseWrite() != nil {
		return
	}
	if conn.SetReadDeadline(time.Now().Add(lingerLimit)) == nil {
		_, _ = io.Copy(io.Discard, io.LimitReader(conn, 1<<20))
	}
}
