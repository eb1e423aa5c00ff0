'use strict';

// What clients of other libraries, versions and tempers send, one command after another, against one agent.
//
//   node oddities.js PROTOS TARGET CHILD GUARDIAN
//
// Prints a line for each: its name, and the answer or the status.

const grpc = require('@grpc/grpc-js');
const protoLoader = require('@grpc/proto-loader');

const [protos, target, child, guardian] = process.argv.slice(2);
const options = {includeDirs: [protos], enums: String, defaults: true};
const definition = protoLoader.loadSync('zhiwang/verification/v1/verification.proto', options);
const {VerificationService} = grpc.loadPackageDefinition(definition).zhiwang.verification.v1;
const PATH = '/zhiwang.verification.v1.VerificationService/';

const context = {matter: 'school-enrolment', reference: '2026-000123', official: 'clerk-17'};
const one = {
  key: 'k',
  subjects: [{slot: 'child', identifier: child}, {slot: 'guardian', identifier: guardian}],
  claims: ['child: health.parent related @guardian', 'guardian: hrss.insured_months at_least 12'],
};
const request = {context, case: one};
const serialized = definition['zhiwang.verification.v1.VerifyRequest'].serialize(request);
const within = (seconds) => ({deadline: Date.now() + seconds * 1000});
const connected = (more) => new VerificationService(target, grpc.credentials.createInsecure(), {
  'grpc.use_local_subchannel_pool': 1, ...more, // a connection of its own for each
});

const told = (error, response) =>
  error ? grpc.status[error.code] : response.result.claims.map((claim) => claim.answer).join(' ');
const verify = (client, metadata = new grpc.Metadata()) =>
  new Promise((done) => client.Verify(request, metadata, within(60), (...came) => done(told(...came))));
const raw = (method, bytes) => new Promise((done) => connected().makeUnaryRequest(
  PATH + method, (sent) => sent, (received) => received, bytes, new grpc.Metadata(), within(60),
  (error) => done(error ? grpc.status[error.code] : 'OK'),
));
const stream = (speak) => new Promise((done) => {
  let results = 0;
  const call = connected().VerifyBatch(within(60));
  call.on('data', (response) => { results += response.results.length; });
  call.on('error', () => {});
  call.on('status', (status) => done(`${grpc.status[status.code]} ${results}`));
  speak(call);
});

async function receipts() {
  const client = connected();
  const call = (method, message) => new Promise((done, fail) =>
    client[method](message, within(60), (error, response) => (error ? fail(error) : done(response))));
  const cases = Array.from({length: 700}, (_, number) => ({...one, key: String(number)}));
  const {batchId} = await call('SubmitBatch', {context, cases, receipt: true});
  // All of them at once is more than this library takes in one message.
  while (!(await call('GetBatchResults', {batchId, pageSize: 1})).done) await new Promise((go) => setTimeout(go, 50));
  let results = 0;
  let pageToken = '';
  do {
    const page = await call('GetBatchResults', {batchId, pageSize: 1000, pageToken});
    results += page.results.filter((result) => result.receipt !== null).length;
    pageToken = page.nextPageToken;
  } while (pageToken);
  return results;
}

async function cancelled() {
  const client = connected();
  for (let number = 0; number < 20; number++) {
    const call = client.Verify(request, within(60), () => {});
    setTimeout(() => call.cancel(), number);
    const batch = client.VerifyBatch();
    batch.on('data', () => {}).on('error', () => {});
    batch.write({context, cases: Array(50).fill(one)});
    setTimeout(() => batch.cancel(), number);
  }
  await new Promise((done) => setTimeout(done, 100));
  return verify(client);
}

const binary = new grpc.Metadata();
binary.set('trace-bin', Buffer.from([0, 255, 10]));

const oddities = {
  gzip: () => verify(connected({'grpc.default_compression_algorithm': 2})),
  deflate: () => verify(connected({'grpc.default_compression_algorithm': 1})),
  'binary metadata': () => verify(connected(), binary),
  'unknown field': () => raw('Verify', Buffer.concat([serialized, Buffer.from('fa3f0178', 'hex')])),
  'broken message': () => raw('Verify', Buffer.from('ffffff', 'hex')),
  'broken text': () => raw('Verify', Buffer.from('0a040a02fffe', 'hex')),
  'no such method': () => raw('Nothing', Buffer.alloc(0)),
  'empty stream': () => stream((call) => call.end()),
  'stream without cases': () => stream((call) => { call.write({context}); call.end(); }),
  'stream without context': () => stream((call) => { call.write({cases: [one]}); call.end(); }),
  'context repeated': () => stream((call) => {
    for (let number = 0; number < 3; number++) call.write({context, cases: [one]});
    call.end();
  }),
  'pages of receipts': receipts,
  'cancelled calls': cancelled,
};

(async () => {
  for (const [name, run] of Object.entries(oddities)) console.log(`${name}\t${await run()}`);
  process.exit(0);
})();
