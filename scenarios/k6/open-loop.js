// The open loop of assay inside k6: Poisson arrivals, latency from the intended start, nothing dropped.
//
//   TARGET=ttheader://127.0.0.1:9000 assay k6 scenarios/k6/open-loop.js
//
// Scenario and thresholds are in load.json, which assay load reads as it is. No virtual user runs: the
// function below is never called, but k6 wants one. The import lets thresholds name assay's metrics.
import 'k6/x/assay';

export const options = JSON.parse(open('./load.json'));
options.scenarios.echo.target = __ENV.TARGET || options.scenarios.echo.target;

export default function () {}
