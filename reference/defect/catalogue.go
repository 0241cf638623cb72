package defect

// The planted defects. Names are permanent; what each one does is in the catalogue below.
const (
	RefuseBuffered                  Name = "rpc.refuse-buffered"
	RefuseFramed                    Name = "rpc.refuse-framed"
	RefuseTTHeader                  Name = "rpc.refuse-ttheader"
	RefuseTTHeaderFramed            Name = "rpc.refuse-ttheader-framed"
	GRPCBehaveAbsent                Name = "grpc.behave-absent"
	HealthAbsent                    Name = "health.absent"
	HealthNotServing                Name = "health.not-serving"
	HealthUnknownServing            Name = "health.unknown-service-serving"
	AdminAbsent                     Name = "admin.absent"
	AdminHealthzFails               Name = "admin.healthz-fails"
	AdminReadyzFails                Name = "admin.readyz-fails"
	BehaveAbsent                    Name = "rpc.behave-absent"
	StackNeverReady                 Name = "stack.never-ready"
	StackExitsAtStart               Name = "stack.exits-at-start"
	StackGarbageReadyLine           Name = "stack.garbage-ready-line"
	ReplyAlwaysFramed               Name = "rpc.reply-always-framed"
	EchoBodyAltered                 Name = "rpc.echo-body-altered"
	LengthIgnored                   Name = "rpc.length-ignored"
	TrailingBytesIgnored            Name = "rpc.trailing-bytes-ignored"
	LengthMismatchHangs             Name = "rpc.length-mismatch-hangs"
	NoLengthLimit                   Name = "rpc.no-length-limit"
	PreallocLength                  Name = "rpc.prealloc-length"
	HeaderSizeZeroServed            Name = "rpc.header-size-zero-served"
	HeaderSizeHangs                 Name = "rpc.header-size-hangs"
	TransformIgnored                Name = "rpc.transform-ignored"
	ProtocolIDIgnored               Name = "rpc.protocol-id-ignored"
	PaddingRejected                 Name = "rpc.padding-rejected"
	InfoIDSkipped                   Name = "rpc.info-id-skipped"
	InfoOrderFixed                  Name = "rpc.info-order-fixed"
	InfoFirstBlockOnly              Name = "rpc.info-first-block-only"
	SeqFromHeader                   Name = "rpc.seq-from-header"
	SeqZero                         Name = "rpc.seq-zero"
	UnknownMethodInternal           Name = "rpc.unknown-method-internal"
	UnknownMethodCloses             Name = "rpc.unknown-method-closes"
	UnknownServiceServed            Name = "rpc.unknown-service-served"
	UnknownClosesAfter              Name = "rpc.unknown-closes-after"
	DeclaredAsException             Name = "rpc.declared-as-exception"
	UndeclaredTypeZero              Name = "rpc.undeclared-type-zero"
	ErrorCloses                     Name = "rpc.error-closes"
	PanicLeaks                      Name = "rpc.panic-leaks"
	PanicKills                      Name = "rpc.panic-kills"
	OnewayAnswered                  Name = "rpc.oneway-answered"
	OnewayDropped                   Name = "rpc.oneway-dropped"
	OnewayTypeAnswered              Name = "rpc.oneway-type-answered"
	MessageTypeIgnored              Name = "rpc.message-type-ignored"
	NonStrictServed                 Name = "rpc.non-strict-served"
	NoReadDeadline                  Name = "rpc.no-read-deadline"
	DeadlineFromFirstByte           Name = "rpc.deadline-from-first-byte"
	DeadlineEarly                   Name = "rpc.deadline-early"
	DeadlineLate                    Name = "rpc.deadline-late"
	NestingUnbounded                Name = "rpc.nesting-unbounded"
	NestingStrict                   Name = "rpc.nesting-strict"
	NameNotEchoed                   Name = "rpc.name-not-echoed"
	HeaderSeqZero                   Name = "rpc.header-seq-zero"
	OnewayCloses                    Name = "rpc.oneway-closes"
	ContainerUnbounded              Name = "rpc.container-unbounded"
	ContainerClosesServed           Name = "rpc.container-closes-served"
	PipeliningReversed              Name = "rpc.pipelining-reversed"
	PipeliningDropsSecond           Name = "rpc.pipelining-drops-second"
	DropsAfterStall                 Name = "rpc.drops-after-stall"
	Impatient                       Name = "rpc.impatient"
	LosesCalls                      Name = "rpc.loses-calls"
	GRPCLosesCalls                  Name = "grpc.loses-calls"
	GRPCUnknownAsCancelled          Name = "grpc.unknown-as-cancelled"
	GRPCUnknownAsInternal           Name = "grpc.unknown-as-internal"
	GRPCEmptyUnaryFails             Name = "grpc.empty-unary-fails"
	GRPCLargeUnaryShort             Name = "grpc.large-unary-short"
	GRPCClientStreamingMiscounts    Name = "grpc.client-streaming-miscounts"
	GRPCServerStreamingDropsLast    Name = "grpc.server-streaming-drops-last"
	GRPCPingPongDropsLast           Name = "grpc.ping-pong-drops-last"
	GRPCEmptyStreamAnswers          Name = "grpc.empty-stream-answers"
	GRPCIgnoresInterval             Name = "grpc.ignores-interval"
	GRPCStatusCodeLost              Name = "grpc.status-code-lost"
	GRPCStatusMessageMangled        Name = "grpc.status-message-mangled"
	GRPCMetadataInitialLost         Name = "grpc.metadata-initial-lost"
	GRPCMetadataTrailingLost        Name = "grpc.metadata-trailing-lost"
	GRPCCancelBreaksConnection      Name = "grpc.cancel-breaks-connection"
	GRPCSoakFails                   Name = "grpc.soak-fails"
	GRPCUnimplementedCallAnswers    Name = "grpc.unimplemented-call-answers"
	GRPCUnimplementedServiceAnswers Name = "grpc.unimplemented-service-answers"
	HealthAlwaysServing             Name = "health.always-serving"
	DrainDropsInflight              Name = "drain.drops-inflight"
)

// catalogue describes every defect; it is never written to, and Catalogue hands out copies.
var catalogue = [...]Entry{
	{RefuseBuffered, "connections that speak buffered Thrift are closed"},
	{RefuseFramed, "connections that speak framed Thrift are closed"},
	{RefuseTTHeader, "connections that speak TTHeader without framing are closed"},
	{RefuseTTHeaderFramed, "connections that speak TTHeader with framing are closed"},
	{GRPCBehaveAbsent, "the behave service is not registered"},
	{HealthAbsent, "the gRPC health service is not registered"},
	{HealthNotServing, "gRPC health of the whole server says NOT_SERVING"},
	{HealthUnknownServing, "gRPC health says SERVING of services that do not exist"},
	{AdminAbsent, "the admin port knows none of its paths"},
	{AdminHealthzFails, "/healthz answers 500"},
	{AdminReadyzFails, "/readyz answers 503 while serving"},
	{BehaveAbsent, "the methods of the behave service are unknown"},
	{StackNeverReady, "the process never says that it is ready"},
	{StackExitsAtStart, "the process ends before it is ready"},
	{StackGarbageReadyLine, "the ready line is not the JSON that it should be"},
	{ReplyAlwaysFramed, "unframed calls get framed replies"},
	{EchoBodyAltered, "echo changes one byte of body"},
	{LengthIgnored, "a frame whose LENGTH or inner frame length is inconsistent is served anyway"},
	{TrailingBytesIgnored, "bytes left over after the message inside a frame are skipped and the call served"},
	{LengthMismatchHangs, "an inconsistent frame is left open without a word, nothing further is read"},
	{NoLengthLimit, "waits for the bytes of any LENGTH (never allocates)"},
	{PreallocLength, "allocates AND touches min(LENGTH, 64 MiB) before checking, then refuses"},
	{HeaderSizeZeroServed, "header size 0 treated as an empty header"},
	{HeaderSizeHangs, "bad header sizes leave the connection open and silent"},
	{TransformIgnored, "a non-zero transform count is ignored and the payload taken as plain"},
	{ProtocolIDIgnored, "any protocol id is taken for Thrift binary"},
	{PaddingRejected, "closes on any 0x00 padding between info blocks that is more than 3 bytes"},
	{InfoIDSkipped, "unknown info id: rest of header skipped, call served"},
	{InfoOrderFixed, "closes unless blocks come in order 0x11,0x01,0x10"},
	{InfoFirstBlockOnly, "forgets all but the first info block"},
	{SeqFromHeader, "reply message carries the header's seq id"},
	{SeqZero, "replies carry seq id 0"},
	{UnknownMethodInternal, "an unknown method is answered with Exception 6 in place of 1"},
	{UnknownMethodCloses, "an unknown method closes the connection without a word"},
	{UnknownServiceServed, "isn is not looked at: a call for any service is served"},
	{UnknownClosesAfter, "answers an unknown method or service with its exception, then closes the connection"},
	{DeclaredAsException, "declared exceptions travel as message type 3"},
	{UndeclaredTypeZero, "an undeclared error is answered with Exception 0 in place of 6"},
	{ErrorCloses, "closes the connection after an undeclared error"},
	{PanicLeaks, "panic text and stack in the exception message"},
	{PanicKills, "the process exits with status 2 on a handler panic"},
	{OnewayAnswered, "replies to Fire"},
	{OnewayDropped, "Fire never runs"},
	{OnewayTypeAnswered, "replies to message type 4 on Echo"},
	{MessageTypeIgnored, "types 0,2,3,5,6.. from a client served as calls"},
	{NonStrictServed, "old-style messages are served"},
	{NoReadDeadline, "no deadline for the first byte nor for a begun frame"},
	{DeadlineFromFirstByte, "the deadline starts only with the first byte"},
	{DeadlineEarly, "the read deadline is a quarter of the configured one"},
	{DeadlineLate, "the read deadline is three times the configured one"},
	{NestingStrict, "32 levels of nesting are refused"},
	{NameNotEchoed, "exceptions carry no method name"},
	{HeaderSeqZero, "reply headers carry sequence id 0, the message the right one"},
	{OnewayCloses, "the connection is closed after a call that gets no answer"},
	{NestingUnbounded, "nesting is not limited (still no crash: 65..100 deep is simply served)"},
	{ContainerUnbounded, "for a list whose count cannot fit allocates and touches 64 MiB, then Exception 7"},
	{ContainerClosesServed, "a list with an impossible count is taken as empty and the call served"},
	{PipeliningReversed, "two calls found in the buffer are answered in reverse order"},
	{PipeliningDropsSecond, "of two calls in one segment only the first is answered"},
	{DropsAfterStall, "a server that notices a gap of its own clock (> 250 ms between 5 ms ticks) closes all RPC connections (visible only under proc/pause)"},
	{Impatient, "a connection whose first byte comes later than 40 ms after accept is closed after its first call (visible only under net/delay)"},
	{LosesCalls, "every 50th Echo call over Thrift is never answered"},
	{GRPCLosesCalls, "every 50th behave Echo call over gRPC hangs until cancelled"},
	{GRPCUnknownAsCancelled, "unknown method or service becomes code 1"},
	{GRPCUnknownAsInternal, "unknown method or service becomes code 13"},
	{GRPCEmptyUnaryFails, "EmptyCall returns INTERNAL"},
	{GRPCLargeUnaryShort, "the payload of UnaryCall is one byte short"},
	{GRPCClientStreamingMiscounts, "StreamingInputCall reports the aggregated size plus one"},
	{GRPCServerStreamingDropsLast, "StreamingOutputCall leaves out the last response"},
	{GRPCPingPongDropsLast, "FullDuplexCall leaves the last request without its responses"},
	{GRPCEmptyStreamAnswers, "sends one response on an empty stream"},
	{GRPCIgnoresInterval, "does not wait interval_us between responses"},
	{GRPCStatusCodeLost, "response_status echoed as UNKNOWN(2)"},
	{GRPCStatusMessageMangled, "non-ASCII bytes of the message replaced by '?'"},
	{GRPCMetadataInitialLost, "x-grpc-test-echo-initial not echoed"},
	{GRPCMetadataTrailingLost, "x-grpc-test-echo-trailing-bin not echoed"},
	{GRPCCancelBreaksConnection, "a cancelled stream makes the server close the whole connection"},
	{GRPCSoakFails, "every 7th LargeUnary call UNAVAILABLE"},
	{GRPCUnimplementedCallAnswers, "TestService/UnimplementedCall answers OK"},
	{GRPCUnimplementedServiceAnswers, "UnimplementedService/UnimplementedCall answers OK"},
	{HealthAlwaysServing, "gRPC health and /readyz stay good during drain"},
	{DrainDropsInflight, "SIGTERM closes connections at once"},
}
