package defect

// The planted defects of the router.
const (
	RouterAbsent                 Name = "router.absent"
	RouterGRPCAbsent             Name = "router.grpc-absent"
	RouterOpenAIAbsent           Name = "router.openai-absent"
	RouterMultimodalAbsent       Name = "router.multimodal-absent"
	RouterFeedbackAbsent         Name = "router.feedback-absent"
	RouterVectorShort            Name = "router.vector-short"
	RouterVectorUnnormalised     Name = "router.vector-unnormalised"
	RouterVectorNondeterministic Name = "router.vector-nondeterministic"
	RouterVectorOrder            Name = "router.vector-order"
	RouterUnknownEmbedded        Name = "router.unknown-embedded"
	RouterUnknownFails           Name = "router.unknown-fails"
	RouterUnseenCounted          Name = "router.unseen-counted"
	RouterLongUnbounded          Name = "router.long-unbounded"
	RouterVoteUnweighted         Name = "router.vote-unweighted"
	RouterVoteNegative           Name = "router.vote-negative"
	RouterKIgnored               Name = "router.k-ignored"
	RouterTieRandom              Name = "router.tie-random"
	RouterNeighboursUnsorted     Name = "router.neighbours-unsorted"
	RouterExplanationLies        Name = "router.explanation-lies"
	RouterExplainForgets         Name = "router.explain-forgets"
	RouterAdditionReshuffles     Name = "router.addition-reshuffles"
	RouterWeightsUnnormalised    Name = "router.weights-unnormalised"
	RouterWindowIgnored          Name = "router.window-ignored"
	RouterHealthIgnored          Name = "router.health-ignored"
	RouterThresholdIgnored       Name = "router.threshold-ignored"
	RouterThresholdMoves         Name = "router.threshold-moves"
	RouterThresholdUnsourced     Name = "router.threshold-unsourced"
	RouterQuantileWrong          Name = "router.quantile-wrong"
	RouterMarginIgnored          Name = "router.margin-ignored"
	RouterFallbackIgnored        Name = "router.fallback-ignored"
	RouterFallbackUncounted      Name = "router.fallback-uncounted"
	RouterEngineUncounted        Name = "router.engine-uncounted"
	RouterCacheHidden            Name = "router.cache-hidden"
	RouterCacheStale             Name = "router.cache-stale"
	RouterNaNTaken               Name = "router.nan-taken"
	RouterFeedbackUnclipped      Name = "router.feedback-unclipped"
	RouterFeedbackCapless        Name = "router.feedback-capless"
	RouterFeedbackUnlimited      Name = "router.feedback-unlimited"
	RouterFeedbackAnonymous      Name = "router.feedback-anonymous"
	RouterFeedbackInverted       Name = "router.feedback-inverted"
	RouterFeedbackDropped        Name = "router.feedback-dropped"
	RouterFeedbackUnknownOK      Name = "router.feedback-unknown-ok"
	RouterFeedbackPartial        Name = "router.feedback-partial"
	RouterGuardIgnored           Name = "router.guard-ignored"
	RouterRollbackPartial        Name = "router.rollback-partial"
	RouterVersionsMixed          Name = "router.versions-mixed"
	RouterVersionMutable         Name = "router.version-mutable"
	RouterAuditMissing           Name = "router.audit-missing"
	RouterAuditIncomplete        Name = "router.audit-incomplete"
	RouterRefusalUnlogged        Name = "router.refusal-unlogged"
	RouterModelUnlisted          Name = "router.model-unlisted"
	RouterManifestUnsigned       Name = "router.manifest-unsigned"
	RouterModelStale             Name = "router.model-stale"
	RouterModelBadTaken          Name = "router.model-bad-taken"
	RouterModelSwapFails         Name = "router.model-swap-fails"
	RouterCanaryEverywhere       Name = "router.canary-everywhere"
	RouterCanaryUnguarded        Name = "router.canary-unguarded"
	RouterCanaryStays            Name = "router.canary-stays"
	RouterEngineSilent           Name = "router.engine-silent"
	RouterEngineDiffers          Name = "router.engine-differs"
	RouterSpansUncoloured        Name = "router.spans-uncoloured"
	RouterSpansOldModel          Name = "router.spans-old-model"
	RouterBaggageMissing         Name = "router.baggage-missing"
	RouterAutoUnrouted           Name = "router.auto-unrouted"
	RouterAutoFirstMessage       Name = "router.auto-first-message"
	RouterModelIgnored           Name = "router.model-ignored"
	RouterModelNameKept          Name = "router.model-name-kept"
	RouterBodyRewritten          Name = "router.body-rewritten"
	RouterStreamBuffered         Name = "router.stream-buffered"
	RouterStreamUnended          Name = "router.stream-unended"
	RouterErrorShape             Name = "router.error-shape"
	RouterUnknownModel200        Name = "router.unknown-model-200"
	RouterUpstreamErrorHidden    Name = "router.upstream-error-hidden"
	RouterRetryMissing           Name = "router.retry-missing"
	RouterObjectiveIgnored       Name = "router.objective-ignored"
	RouterSplitIgnored           Name = "router.split-ignored"
	RouterSplitRandom            Name = "router.split-random"
	RouterShadowAnswers          Name = "router.shadow-answers"
	RouterShadowMissing          Name = "router.shadow-missing"
	RouterDispatchOne            Name = "router.dispatch-one"
	RouterDispatchBlocks         Name = "router.dispatch-blocks"
	RouterURLFetched             Name = "router.url-fetched"
	RouterModalityIgnored        Name = "router.modality-ignored"
	RouterImageUnchecked         Name = "router.image-unchecked"
	RouterDriftSilent            Name = "router.drift-silent"
	RouterDriftAlways            Name = "router.drift-always"
	RouterUnboundedBody          Name = "router.unbounded-body"
	RouterProblemPlain           Name = "router.problem-plain"
	RouterUnknownMemberOK        Name = "router.unknown-member-ok"
	RouterDecideDials            Name = "router.decide-dials"
	RouterSlow                   Name = "router.slow"
	RouterStalls                 Name = "router.stalls"
	RouterAllocates              Name = "router.allocates"
	RouterMeasuresOther          Name = "router.measures-other"
)

var catalogueRouter = []Entry{
	{RouterAbsent, "the router's HTTP port answers 404 to everything"},
	{RouterGRPCAbsent, "the router's gRPC port serves no service"},
	{RouterOpenAIAbsent, "/v1/chat/completions is not there"},
	{RouterMultimodalAbsent, "/v1/multimodal/invoke is not there"},
	{RouterFeedbackAbsent, "feedback is answered with 404"},
	{RouterVectorShort, "vectors have 127 values"},
	{RouterVectorUnnormalised, "the sum of a bag is scaled by 1.0005 after its norm was made 1"},
	{RouterVectorNondeterministic, "the last bit of a vector's first value changes from call to call"},
	{RouterVectorOrder, "the vector of a text depends on the text embedded before it"},
	{RouterUnknownEmbedded, "a text without known features gets a fixed vector from the engine in place of an abstention"},
	{RouterUnknownFails, "a text without known features is a 500"},
	{RouterUnseenCounted, "a word that the model does not know shifts the vector"},
	{RouterLongUnbounded, "a text of more than 1 MiB is taken, and each byte of a long one costs a microsecond"},
	{RouterVoteUnweighted, "every neighbour's vote counts 1"},
	{RouterVoteNegative, "negative cosines are taken off a policy's sum"},
	{RouterKIgnored, "the nearest neighbour alone decides"},
	{RouterTieRandom, "policies with equal sums are answered in turn"},
	{RouterNeighboursUnsorted, "the neighbours of a decision are listed the farthest first"},
	{RouterExplanationLies, "the cosines of an explanation are 0.01 too high"},
	{RouterExplainForgets, "an explanation of a past decision is made with the live version"},
	{RouterAdditionReshuffles, "adding a policy moves the rows of the others"},
	{RouterWeightsUnnormalised, "the weights of the policies do not sum to 1"},
	{RouterWindowIgnored, "time windows have no effect"},
	{RouterHealthIgnored, "observed latency and errors have no effect"},
	{RouterThresholdIgnored, "a cosine below the threshold does not abstain"},
	{RouterThresholdMoves, "the threshold follows the texts that are decided"},
	{RouterThresholdUnsourced, "a calibrated threshold is reported without its split and quantile"},
	{RouterQuantileWrong, "calibration takes the quantile from the wrong end"},
	{RouterMarginIgnored, "a margin below the minimum does not abstain"},
	{RouterFallbackIgnored, "an abstention answers the nearest policy in place of the fallback"},
	{RouterFallbackUncounted, "abstentions that go to the fallback are not counted"},
	{RouterEngineUncounted, "calls of the engine are not counted"},
	{RouterCacheHidden, "vectors are kept by text, unasked and unreported"},
	{RouterCacheStale, "the cache gives the vector of another text of the same length"},
	{RouterNaNTaken, "a vector that is not finite, or is zero, is taken"},
	{RouterFeedbackUnclipped, "the difference of a feedback event is not clipped"},
	{RouterFeedbackCapless, "a prototype may move away from its trained row without limit"},
	{RouterFeedbackUnlimited, "the rate and share of a source are not limited"},
	{RouterFeedbackAnonymous, "anonymous feedback is applied"},
	{RouterFeedbackInverted, "rejected feedback moves the row towards the text"},
	{RouterFeedbackDropped, "feedback is acknowledged and changes nothing"},
	{RouterFeedbackUnknownOK, "feedback for an unknown decision is acknowledged"},
	{RouterFeedbackPartial, "a batch with a bad event applies the events before it"},
	{RouterGuardIgnored, "a loss on the guard set does not roll back"},
	{RouterRollbackPartial, "a roll back restores the version's id and not its rows"},
	{RouterVersionsMixed, "a decision names the newest version with the neighbours of the one before"},
	{RouterVersionMutable, "feedback changes the rows of the version that it started from"},
	{RouterAuditMissing, "applied feedback is not logged"},
	{RouterAuditIncomplete, "the log leaves out the source and the vector"},
	{RouterRefusalUnlogged, "refused feedback is not logged"},
	{RouterModelUnlisted, "a model that is not in the signed manifest is loaded"},
	{RouterManifestUnsigned, "the manifest's signature is not verified"},
	{RouterModelStale, "after a promotion decisions name the model before"},
	{RouterModelBadTaken, "a damaged model is loaded in place of a refusal"},
	{RouterModelSwapFails, "decisions fail while a model is promoted"},
	{RouterCanaryEverywhere, "a canary decides for every key"},
	{RouterCanaryUnguarded, "a canary with a lower guard accuracy is started"},
	{RouterCanaryStays, "a canary that feedback rejects goes on"},
	{RouterEngineSilent, "the engine onnxruntime falls back to pure Go without a word"},
	{RouterEngineDiffers, "onnxruntime's vectors differ from pure Go's by 1e-3"},
	{RouterSpansUncoloured, "spans have no model_version"},
	{RouterSpansOldModel, "spans carry the model that was there at the start"},
	{RouterBaggageMissing, "upstreams see no traceparent and no baggage"},
	{RouterAutoUnrouted, "the model auto goes to the first backend, whatever the text"},
	{RouterAutoFirstMessage, "the first message of the user decides in place of the last one"},
	{RouterModelIgnored, "an explicit model name is routed like auto"},
	{RouterModelNameKept, "the upstream is asked for the model auto"},
	{RouterBodyRewritten, "members of a chat request that the router does not know are dropped"},
	{RouterStreamBuffered, "a streamed answer is passed on when it is whole"},
	{RouterStreamUnended, "the last event of a stream is lost"},
	{RouterErrorShape, "errors of the OpenAI face are problem+json"},
	{RouterUnknownModel200, "an unknown model name is served by the first backend"},
	{RouterUpstreamErrorHidden, "an upstream's 4xx is answered as 200 with an empty choice"},
	{RouterRetryMissing, "a backend that can not be reached is not replaced by the policy's next one"},
	{RouterObjectiveIgnored, "cost, latency and priority pick the first backend"},
	{RouterSplitIgnored, "the A/B split sends every key to the first backend"},
	{RouterSplitRandom, "the A/B split does not keep a key at its backend"},
	{RouterShadowAnswers, "the shadow backend's answer is given to the client"},
	{RouterShadowMissing, "the shadow backend gets no copy"},
	{RouterDispatchOne, "a dispatch asks the best policy's backend only"},
	{RouterDispatchBlocks, "a dispatch is answered when its backends have answered"},
	{RouterURLFetched, "the router fetches the URL of an image"},
	{RouterModalityIgnored, "an image goes to a backend that takes text alone"},
	{RouterImageUnchecked, "an image that is not what it says is passed on"},
	{RouterDriftSilent, "drift is measured and raises no alert"},
	{RouterDriftAlways, "drift raises an alert whatever it measured"},
	{RouterUnboundedBody, "a chat request of any length is read"},
	{RouterProblemPlain, "errors of the API are plain text"},
	{RouterUnknownMemberOK, "unknown members of a body are ignored"},
	{RouterDecideDials, "deciding opens a connection to the policy's backend"},
	{RouterSlow, "a decision takes two milliseconds more"},
	{RouterStalls, "every 64th decision takes 100 milliseconds more"},
	{RouterAllocates, "a decision allocates a kilobyte"},
	{RouterMeasuresOther, "a measurement runs on another model's digest than decisions name"},
}
