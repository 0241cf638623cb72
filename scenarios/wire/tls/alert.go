package tls

import "fmt"

// Levels of an alert, RFC 9846 section 6.
const (
	alertWarning = 1
	alertFatal   = 2
)

// The alerts that the prober itself sends or treats apart.
const (
	closeNotify      AlertCode = 0
	unexpectedMsg    AlertCode = 10
	badRecordMAC     AlertCode = 20
	handshakeFailure AlertCode = 40
	illegalParameter AlertCode = 47
	decodeError      AlertCode = 50
	decryptError     AlertCode = 51
	userCanceled     AlertCode = 90
	unrecognizedName AlertCode = 112
)

// String gives the name of RFC 9846 section 6, or of the older version that defined the code.
func (c AlertCode) String() string {
	switch c {
	case closeNotify:
		return "close_notify"
	case unexpectedMsg:
		return "unexpected_message"
	case badRecordMAC:
		return "bad_record_mac"
	case 21:
		return "decryption_failed"
	case 22:
		return "record_overflow"
	case 30:
		return "decompression_failure"
	case handshakeFailure:
		return "handshake_failure"
	case 41:
		return "no_certificate"
	case 42:
		return "bad_certificate"
	case 43:
		return "unsupported_certificate"
	case 44:
		return "certificate_revoked"
	case 45:
		return "certificate_expired"
	case 46:
		return "certificate_unknown"
	case illegalParameter:
		return "illegal_parameter"
	case 48:
		return "unknown_ca"
	case 49:
		return "access_denied"
	case decodeError:
		return "decode_error"
	case decryptError:
		return "decrypt_error"
	case 60:
		return "export_restriction"
	case 70:
		return "protocol_version"
	case 71:
		return "insufficient_security"
	case 80:
		return "internal_error"
	case 86:
		return "inappropriate_fallback"
	case userCanceled:
		return "user_canceled"
	case 100:
		return "no_renegotiation"
	case 109:
		return "missing_extension"
	case 110:
		return "unsupported_extension"
	case 111:
		return "certificate_unobtainable"
	case unrecognizedName:
		return "unrecognized_name"
	case 113:
		return "bad_certificate_status_response"
	case 114:
		return "bad_certificate_hash_value"
	case 115:
		return "unknown_psk_identity"
	case 116:
		return "certificate_required"
	case 117:
		return "general_error"
	case 120:
		return "no_application_protocol"
	case 121:
		return "ech_required"
	}
	return fmt.Sprintf("alert %d", uint8(c))
}

// AlertNamed finds the code of a name that String gives; false: there is none.
func AlertNamed(name string) (AlertCode, bool) {
	for c := range 256 {
		if AlertCode(c).String() == name {
			return AlertCode(c), true
		}
	}
	return 0, false
}

func seenAlert(level uint8, code AlertCode, encrypted bool) *Alert {
	return &Alert{Level: level, Code: code, Name: code.String(), Encrypted: encrypted}
}
