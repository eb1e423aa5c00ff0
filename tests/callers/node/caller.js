'use strict';

// A program of a department that asks its agent. It knows nothing of Zhiwang but the packed .proto files.
//
//   node caller.js PROTOS TARGET [CA [CERTIFICATE KEY] SERVER_NAME]
//
// Each line of standard input is a command, its words separated by tabs; what comes of it goes to standard output, and
// ends with the line "done". The parts between "begin" and "end" are the examples in the pack's README.

// begin: connect
const fs = require('node:fs');
const grpc = require('@grpc/grpc-js');
const protoLoader = require('@grpc/proto-loader');

const definition = protoLoader.loadSync(
  ['zhiwang/verification/v1/verification.proto', 'google/rpc/status.proto', 'google/rpc/error_details.proto'],
  {includeDirs: [process.argv[2]], longs: String, enums: String, defaults: true, oneofs: true},
);
const {VerificationService} = grpc.loadPackageDefinition(definition).zhiwang.verification.v1;
const connect = (target) => new VerificationService(target, grpc.credentials.createInsecure());
// end: connect

// begin: tls
function connectTls(target, ca, certificate, key, serverName) {
  const credentials = grpc.credentials.createSsl(
    fs.readFileSync(ca), fs.readFileSync(key), fs.readFileSync(certificate),
  );
  // The agent's certificate names what it is, agent.<city>.zhiwang.internal, and not the host on which it runs.
  return new VerificationService(target, credentials, {
    'grpc.ssl_target_name_override': serverName,
    'grpc.default_authority': serverName,
  });
}
// end: tls

/** Without a certificate of its own, to see it refused. */
function connectUnnamed(target, ca, serverName) {
  const options = {'grpc.ssl_target_name_override': serverName, 'grpc.default_authority': serverName};
  return new VerificationService(target, grpc.credentials.createSsl(fs.readFileSync(ca)), options);
}

// begin: verify
function verify(client, child, childName, guardian, claims, seconds, done) {
  const request = {
    context: {matter: 'school-enrolment', reference: '2026-000123', official: 'clerk-17'},
    case: {
      key: 'our-own-number-9',
      subjects: [
        {slot: 'child', identifier: child, name: childName},
        {slot: 'guardian', identifier: guardian},
      ],
      claims, // e.g. ['child: health.parent related @guardian']; empty: all claims of the matter
    },
  };
  client.Verify(request, {deadline: Date.now() + seconds * 1000}, (error, response) => {
    if (error) return done(explain(error));
    for (const claim of response.result.claims) console.log(decide(claim));
    done();
  });
}

function decide(claim) {
  switch (claim.status) {
    case 'CLAIM_STATUS_ANSWERED':
      if (claim.answer === 'ANSWER_YES') return `${claim.claim}\tconfirmed`;
      // A NO and an UNKNOWN reject nobody: a person looks, and the counter explains and corrects the record.
      return `${claim.claim}\t${claim.answer === 'ANSWER_NO' ? 'disagrees' : 'by hand'}\t${claim.counter}`;
    case 'CLAIM_STATUS_DENIED':
      return `${claim.claim}\tnot allowed\t${claim.reason}`; // asking again changes nothing
    case 'CLAIM_STATUS_UNAVAILABLE':
      return `${claim.claim}\ttry later\t${claim.reason}`;
    default:
      return `${claim.claim}\tby hand\t`; // a status that this program does not know yet
  }
}
// end: verify

// begin: errors
function explain(error) {
  const told = {code: grpc.status[error.code], reason: '', field: '', text: ''};
  // Absent if the call never reached the agent: a deadline of our own, a connection that failed.
  const [bytes] = error.metadata ? error.metadata.get('grpc-status-details-bin') : [];
  if (bytes === undefined) return told;
  for (const detail of definition['google.rpc.Status'].deserialize(bytes).details) {
    const name = detail.type_url.split('/').pop();
    if (!(name in definition)) continue;
    const message = definition[name].deserialize(detail.value);
    if (name === 'google.rpc.ErrorInfo') told.reason = message.reason; // a word of docs/errors.md
    if (name === 'google.rpc.BadRequest') told.field = message.fieldViolations[0].field;
    if (name === 'google.rpc.LocalizedMessage') told.text = message.message; // in Chinese, to show to a person
  }
  return told;
}
// end: errors

// begin: batch
function verifyBatch(client, context, cases, each, done) {
  const stream = client.VerifyBatch({deadline: Date.now() + 60_000});
  stream.on('data', (response) => response.results.forEach(each)); // in any order, with our own keys
  stream.on('error', (error) => done(explain(error)));
  stream.on('end', () => done());
  (async () => {
    stream.write({context});
    for (let start = 0; start < cases.length; start += 100) {
      const more = stream.write({cases: cases.slice(start, start + 100)});
      if (!more) await new Promise((resolve) => stream.once('drain', resolve));
    }
    stream.end();
  })();
}
// end: batch

const commands = {
  verify: (client, [child, childName, guardian, seconds, ...claims], done) =>
    verify(client, child, childName, guardian, claims, Number(seconds), done),

  batch(client, [count, child, guardian, ...claims], done) {
    const subjects = [{slot: 'child', identifier: child}, {slot: 'guardian', identifier: guardian}];
    const cases = Array.from({length: Number(count)}, (_, number) => ({key: `第${number}件`, subjects, claims}));
    const context = {matter: 'school-enrolment', reference: '2026-000123', official: 'clerk-17'};
    verifyBatch(client, context, cases, (result) => {
      console.log([result.key, result.reason, ...result.claims.map((claim) => claim.answer)].join('\t'));
    }, done);
  },

  matters(client, _, done) {
    client.ListMatters({}, {deadline: Date.now() + 60_000}, (error, response) => {
      if (error) return done(explain(error));
      for (const matter of response.matters) console.log(`${matter.name}\t${matter.title.zh}`);
      done();
    });
  },
};

function main([, target, ...tls]) {
  const client = [connect, null, connectUnnamed, null, connectTls][tls.length](target, ...tls);
  const lines = require('node:readline').createInterface({input: process.stdin});
  let open = 1; // commands under way, and standard input
  const end = () => --open || client.close();
  lines.on('line', (line) => {
    const [command, ...words] = line.split('\t');
    open++;
    commands[command](client, words, (told) => {
      if (told) console.log(['refused', told.code, told.reason, told.field, told.text].join('\t'));
      console.log('done');
      end();
    });
  });
  lines.on('close', end);
}

main(process.argv.slice(2));
