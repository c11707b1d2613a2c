// An existing system of a hospital: it has Hyperledger's own gateway library and the Secret of its Identity, mounted as
// files, and nothing else (C15). It follows the contract's events, asks for access, and reads that it was decided.
//
// node from_secret.mjs FOLDER HOLDER PATIENT [ADDRESS]: ADDRESS is where the peer is reached if not at the address of the
// connection profile, as with a forwarded port. Prints the answer and the event as one line of JSON.

import assert from 'node:assert/strict';
import { createPrivateKey, randomBytes } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';

import * as grpc from '@grpc/grpc-js';
import { connect, hash, signers } from '@hyperledger/fabric-gateway';

const [folder, holder, patient, address] = process.argv.slice(2);
const file = (name) => readFileSync(join(folder, name), 'utf8');

const profile = JSON.parse(file('connection.json'));
const wallet = JSON.parse(file(`${holder}.id`));
const [[channel, { peers }]] = Object.entries(profile.channels);
const peer = profile.peers[Object.keys(peers)[0]];
const { host } = new URL(peer.url.replace('grpcs:', 'https:'));

const transport = new grpc.Client(
    address ?? host,
    grpc.credentials.createSsl(Buffer.from(peer.tlsCACerts.pem)),
    { 'grpc.ssl_target_name_override': peer.grpcOptions['ssl-target-name-override'] },
);
const deadline = () => ({ deadline: Date.now() + 60_000 });
const gateway = connect({
    client: transport,
    identity: { mspId: wallet.mspId, credentials: Buffer.from(wallet.credentials.certificate) },
    signer: signers.newPrivateKeySigner(createPrivateKey(wallet.credentials.privateKey)),
    hash: hash.sha256,
    evaluateOptions: deadline, endorseOptions: deadline, submitOptions: deadline, commitStatusOptions: deadline,
});
const network = gateway.getNetwork(channel);
const contract = network.getContract('ehr');

const events = await network.getChaincodeEvents('ehr', { startBlock: 0n });
const commit = await contract.submitAsync('RequestAccess', {
    arguments: [JSON.stringify({ patient, purpose: 'TREAT' })],
    transientData: { access: JSON.stringify({ salt: randomBytes(32).toString('hex') }) },
});
const status = await commit.getStatus();
assert.equal(status.successful, true);
for await (const event of events) {
    if (event.transactionId === status.transactionId) {
        const told = { name: event.eventName, ...JSON.parse(Buffer.from(event.payload).toString()) };
        console.log(JSON.stringify({ answer: JSON.parse(Buffer.from(commit.getResult()).toString()), event: told }));
        break;
    }
}
events.close();
gateway.close();
transport.close();
