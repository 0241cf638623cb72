package defect

// The planted defects of the TPM part.
const (
	TPMCacheAbsent             Name = "tpm.cache-absent"
	TPMQuoteAbsent             Name = "tpm.quote-absent"
	TPMEnvelopeAbsent          Name = "tpm.envelope-absent"
	TPMTruncatesAt128          Name = "tpm.truncates-at-128"
	TPMPolicyAbsent            Name = "tpm.policy-absent"
	TPMKekKept                 Name = "tpm.kek-kept"
	TPMRollbackUnchecked       Name = "tpm.rollback-unchecked"
	TPMAadUnbound              Name = "tpm.aad-unbound"
	TPMSrkRandom               Name = "tpm.srk-random"
	TPMPlaintextCopy           Name = "tpm.plaintext-copy"
	TPMBackendUnlabelled       Name = "tpm.backend-unlabelled"
	TPMQuoteSignatureUnchecked Name = "tpm.quote-signature-unchecked"
	TPMQuoteMagicUnchecked     Name = "tpm.quote-magic-unchecked"
	TPMQuoteNonceUnchecked     Name = "tpm.quote-nonce-unchecked"
	TPMQuoteSelectionUnchecked Name = "tpm.quote-selection-unchecked"
	TPMQuoteDigestUnchecked    Name = "tpm.quote-digest-unchecked"
	TPMResetHidden             Name = "tpm.reset-hidden"
	TPMLockoutRetried          Name = "tpm.lockout-retried"
	TPMHandlesLeaked           Name = "tpm.handles-leaked"
	TPMMemoryNotRetried        Name = "tpm.memory-not-retried"
	TPMTransientNotRetried     Name = "tpm.transient-not-retried"
	TPMTransientRetriedForever Name = "tpm.transient-retried-forever"
	TPMWaitsForTpm             Name = "tpm.waits-for-tpm"
	TPMShortResponseServed     Name = "tpm.short-response-served"
	TPMRaceServed              Name = "tpm.race-served"
	TPMWipedGivesUp            Name = "tpm.wiped-gives-up"
	TPMExpiredServed           Name = "tpm.expired-served"
	TPMResponderSkipped        Name = "tpm.responder-skipped"
)

var catalogueTPM = []Entry{
	{TPMCacheAbsent, "every call of the cache's API is refused"},
	{TPMQuoteAbsent, "every call of the quote's API is refused"},
	{TPMEnvelopeAbsent, "a response is sealed directly, so that one beyond 128 bytes is not stored"},
	{TPMTruncatesAt128, "a direct seal keeps the first 128 bytes of what is longer"},
	{TPMPolicyAbsent, "the sealed key is bound to no PCR"},
	{TPMKekKept, "in KEK mode the PCRs are not read again"},
	{TPMRollbackUnchecked, "the generation of the cache is not compared with the NV counter"},
	{TPMAadUnbound, "id and generation do not enter the entry's authentication"},
	{TPMSrkRandom, "the storage root key is another one after each reset"},
	{TPMPlaintextCopy, "a copy of the response is kept in the folder in plain"},
	{TPMBackendUnlabelled, "status and open do not name the backend"},
	{TPMQuoteSignatureUnchecked, "the signature of a quote is not verified"},
	{TPMQuoteMagicUnchecked, "magic and type of an attestation are not compared"},
	{TPMQuoteNonceUnchecked, "qualifyingData of a quote is not compared"},
	{TPMQuoteSelectionUnchecked, "the PCR selection of a quote is not compared"},
	{TPMQuoteDigestUnchecked, "the PCR digest of a quote is not compared"},
	{TPMResetHidden, "changes of resetCount and restartCount are not reported"},
	{TPMLockoutRetried, "after TPM_RC_LOCKOUT the command is sent again and again"},
	{TPMHandlesLeaked, "transient objects are never flushed"},
	{TPMMemoryNotRetried, "object and session memory errors are not followed by a flush and a retry"},
	{TPMTransientNotRetried, "RETRY, YIELDED and TESTING fail at once"},
	{TPMTransientRetriedForever, "RETRY, YIELDED and TESTING are retried without a bound"},
	{TPMWaitsForTpm, "a hung TPM holds up the handshake"},
	{TPMShortResponseServed, "a truncated answer of the TPM is padded with zeroes and taken"},
	{TPMRaceServed, "what failed to unseal is served from memory"},
	{TPMWipedGivesUp, "after TPM_RC_INTEGRITY on load nothing is stored again"},
	{TPMExpiredServed, "an entry is served after its nextUpdate"},
	{TPMResponderSkipped, "a failed cache is not followed by the responder"},
}
