package wire

import "fmt"

// Reason says why bytes were refused; it is the label of the protocol error counter. The set is
// closed: a new reason is a new constant here.
type Reason string

// The reasons.
const (
	ReasonProtocol       Reason = "unsupported-protocol" // not one of the Thrift forms
	ReasonOldStyle       Reason = "old-style-message"    // a message without the strict version
	ReasonTooLarge       Reason = "length-over-limit"    // LENGTH, frame length or message over the limit
	ReasonHeaderSize     Reason = "header-size-zero"     // TTHeader header of no words
	ReasonHeaderBeyond   Reason = "header-beyond-frame"  // header does not fit into LENGTH
	ReasonTransform      Reason = "transform"            // payload transforms claimed
	ReasonProtocolID     Reason = "protocol-id"          // no codec for the protocol id
	ReasonInfo           Reason = "info-block"           // unknown or malformed info block
	ReasonPayload        Reason = "payload-unknown"      // TTHeader payload is no Thrift message
	ReasonLengthMismatch Reason = "length-mismatch"      // LENGTH and inner frame length disagree
	ReasonTrailing       Reason = "trailing-bytes"       // bytes left over behind the message
	ReasonChecksum       Reason = "checksum"             // crc32c does not match
	ReasonMessageHead    Reason = "message-head"         // version, name or seq id unreadable
	ReasonMessageType    Reason = "message-type"         // not a call
	ReasonTruncated      Reason = "truncated"            // the struct goes on behind its frame
	ReasonNesting        Reason = "nesting"              // deeper than the limit
	ReasonContainer      Reason = "container-size"       // count cannot fit into the bytes left
	ReasonMalformed      Reason = "malformed"            // negative size, unknown field type
	ReasonRequired       Reason = "required-field"       // a required field is missing
	ReasonElements       Reason = "too-many-elements"    // more decoded elements than a message may hold
)

// Exception type ids of the Thrift ApplicationException. 20 is the Kitex family's addition.
const (
	ExceptionUnknown        int32 = 0
	ExceptionUnknownMethod  int32 = 1
	ExceptionMessageType    int32 = 2
	ExceptionInternal       int32 = 6
	ExceptionProtocol       int32 = 7
	ExceptionUnknownService int32 = 20
)

// Refusal is the error of every decoder in this package: bytes that break a rule.
type Refusal struct {
	Reason Reason
	Detail string // for logs and tests; carries sizes and positions, never payload bytes
}

func refuse(reason Reason, format string, args ...any) *Refusal {
	return &Refusal{Reason: reason, Detail: fmt.Sprintf(format, args...)}
}

// Error implements error.
func (r *Refusal) Error() string { return string(r.Reason) + ": " + r.Detail }

// Exception returns the type id with which a server answers this refusal when it knows the call.
func (r *Refusal) Exception() int32 {
	if r.Reason == ReasonMessageType {
		return ExceptionMessageType
	}
	return ExceptionProtocol
}
