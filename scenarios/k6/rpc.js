// Calls of a Thrift service behind TTHeader, by virtual users, with the codecs of assay.
//
//   RPC=127.0.0.1:9000 assay k6 scenarios/k6/rpc.js
//
// The endpoint is that of the reference stack (assay up) or of any server of the behave service.
import { check } from 'k6';
import { rpc } from 'k6/x/assay';

const address = __ENV.RPC || '127.0.0.1:9000';

export const options = {
  scenarios: {
    calls: { executor: 'constant-arrival-rate', rate: 50, duration: '2s', preAllocatedVUs: 20, maxVUs: 50 },
  },
  thresholds: {
    rpc_req_failed: ['rate==0'],
    rpc_req_duration: ['p(95)<1000'],
    checks: ['rate==1'],
  },
};

export default function () {
  const token = `vu ${__VU} iteration ${__ITER}`;
  const answer = rpc(address, { body: token, headers: { 'trace-id': token }, timeout: '5s' });
  check(answer, {
    'it is answered': (a) => a.ok || console.error(a.error),
    'the body comes back': (a) => a.body === token,
  });
  // any service: the argument struct by hand, the result by field id
  const raw = rpc(address, { args: [{ id: 1, type: 'struct', value: [{ id: 2, type: 'string', value: token }] }] });
  check(raw, { 'the result struct is readable': (a) => a.ok && a.result['0']['2'] === token });
}
