// A client on Hyperledger's own gateway library. It calls the chaincode that the test has put in force and checks each
// answer; it ends with an error at the first that is not as on Hyperledger Fabric.
//
// node client.mjs FILE: FILE is JSON {endpoint, tlsRoot, mspId, certificate, key, channel, chaincode}; PEM is text.

import assert from 'node:assert/strict';
import { createPrivateKey } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { setTimeout as pause } from 'node:timers/promises';

import * as grpc from '@grpc/grpc-js';
import {
    checkpointers, CommitError, connect, EndorseError, GatewayError, hash, signers, StatusCode,
} from '@hyperledger/fabric-gateway';

const told = JSON.parse(readFileSync(process.argv[2], 'utf8'));
const text = (bytes) => Buffer.from(bytes).toString();

const transport = new grpc.Client(told.endpoint, grpc.credentials.createSsl(Buffer.from(told.tlsRoot)));
const deadline = () => ({ deadline: Date.now() + 60_000 });
const gateway = connect({
    client: transport,
    identity: { mspId: told.mspId, credentials: Buffer.from(told.certificate) },
    signer: signers.newPrivateKeySigner(createPrivateKey(told.key)),
    hash: hash.sha256,
    evaluateOptions: deadline, endorseOptions: deadline, submitOptions: deadline, commitStatusOptions: deadline,
});
const network = gateway.getNetwork(told.channel);
const contract = network.getContract(told.chaincode);

async function step(name, run) {
    const result = await run();
    console.log(`ok ${name}`);
    return result;
}

/** The error that `run` ends with, which must be of a class. */
async function failure(kind, run) {
    try {
        await run();
    } catch (error) {
        assert.ok(error instanceof kind, `${error.constructor.name}: ${error.message}`);
        return error;
    }
    return assert.fail(`no ${kind.name}`);
}

/** A peer learns of the others' peers a while after it started. */
async function untilPeersAreKnown() {
    for (;;) {
        try {
            return await contract.submitTransaction('put', 'first', 'value');
        } catch (error) {
            if (error instanceof EndorseError && error.code === grpc.status.FAILED_PRECONDITION) {
                await pause(200);
                continue;
            }
            throw error;
        }
    }
}

const start = await step('a transaction is submitted', async () => {
    await untilPeersAreKnown();
    const commit = await contract.submitAsync('put', { arguments: ['k', 'v1'] });
    const status = await commit.getStatus();
    assert.equal(status.successful, true);
    assert.equal(status.code, StatusCode.VALID);
    assert.ok(status.blockNumber > 0n);
    assert.equal(status.transactionId, commit.getTransactionId());
    return status;
});

await step('a query is evaluated', async () => {
    assert.equal(text(await contract.evaluateTransaction('get', 'k')), 'v1');
    assert.equal(text(await contract.evaluateTransaction('get', 'nothing')), '');
});

await step('transient data reaches a collection', async () => {
    const transientData = { value: 'secret' };
    await contract.submit('putPrivate', { arguments: ['shared', 'p'], transientData });
    assert.equal(text(await contract.evaluateTransaction('getPrivate', 'shared', 'p')), 'secret');
});

await step("a collection's own policy needs its members only", async () => {
    await contract.submit('putPrivate', { arguments: ['own-a', 'p'], transientData: { value: 'secret' } });
    assert.equal(text(await contract.evaluateTransaction('getPrivate', 'own-a', 'p')), 'secret');
});

await step("a contract's refusal is told with its words", async () => {
    const endorse = await failure(EndorseError, () => contract.submitTransaction('fail', 'CONSENT_REVOKED'));
    assert.equal(endorse.code, grpc.status.ABORTED);
    assert.equal(endorse.details.length, 1);
    assert.equal(endorse.details[0].mspId, told.mspId);
    assert.equal(endorse.details[0].address, told.endpoint);
    assert.equal(endorse.details[0].message, 'chaincode response 500, CONSENT_REVOKED');
    const evaluate = await failure(GatewayError, () => contract.evaluateTransaction('fail', 'CONSENT_REVOKED'));
    assert.equal(evaluate.code, grpc.status.UNKNOWN);
    assert.match(evaluate.message, /evaluate call to endorser returned error: chaincode response 500, CONSENT_REVOKED/);
});

await step('peers that have different results are told apart', async () => {
    const error = await failure(EndorseError, () => contract.submitTransaction('who'));
    assert.equal(error.code, grpc.status.ABORTED);
    assert.ok(error.details.some((detail) => detail.message === 'ProposalResponsePayloads do not match'));
});

await step('too few endorsements are found by the peers', async () => {
    const options = { arguments: ['k', 'v2'], endorsingOrganizations: [told.mspId] };
    const error = await failure(CommitError, () => contract.submit('put', options));
    assert.equal(error.code, StatusCode.ENDORSEMENT_POLICY_FAILURE);
    assert.equal(text(await contract.evaluateTransaction('get', 'k')), 'v1');
});

await step("a key's own policy is met without being named", async () => {
    await contract.submitTransaction('put', 'guarded', 'v1');
    await contract.submitTransaction('guard', 'guarded', told.mspId);
    await contract.submitTransaction('put', 'guarded', 'v2');
    assert.equal(text(await contract.evaluateTransaction('get', 'guarded')), 'v2');
});

await step('what is not there is said', async () => {
    const unknown = network.getContract('nothing');
    const evaluate = await failure(GatewayError, () => unknown.evaluateTransaction('get', 'k'));
    assert.equal(evaluate.code, grpc.status.FAILED_PRECONDITION);
    assert.match(evaluate.message, /no peers available to evaluate chaincode nothing in channel/);
    const endorse = await failure(EndorseError, () => unknown.submitTransaction('put', 'k', 'v'));
    assert.equal(endorse.code, grpc.status.FAILED_PRECONDITION);
    const foreign = gateway.getNetwork('elsewhere').getContract(told.chaincode);
    const elsewhere = await failure(GatewayError, () => foreign.evaluateTransaction('get', 'k'));
    assert.equal(elsewhere.code, grpc.status.UNAVAILABLE);
    const missing = { arguments: ['k', 'v'], endorsingOrganizations: ['Nobody'] };
    const org = await failure(EndorseError, () => contract.submit('put', missing));
    assert.match(org.message, /failed to find any endorsing peers for org\(s\): Nobody/);
});

await step('events are read, and gone on with from a checkpoint', async () => {
    const checkpoint = checkpointers.inMemory();
    const read = async (count) => {
        const events = await network.getChaincodeEvents(told.chaincode, { checkpoint, startBlock: start.blockNumber });
        try {
            const names = [];
            for await (const event of events) {
                assert.equal(event.chaincodeName, told.chaincode);
                assert.equal(event.eventName, 'put');
                await checkpoint.checkpointChaincodeEvent(event);
                names.push(text(event.payload));
                if (names.length === count) {
                    return names;
                }
            }
            return assert.fail('the events ended');
        } finally {
            events.close();
        }
    };
    assert.deepEqual(await read(1), ['k']);
    assert.deepEqual(await read(2), ['guarded', 'guarded']);
    assert.equal(checkpoint.getTransactionId() !== start.transactionId, true);
});

await step('events of later blocks are waited for', async () => {
    const events = await network.getChaincodeEvents(told.chaincode);
    try {
        const next = events[Symbol.asyncIterator]().next();
        await pause(500);
        await contract.submitTransaction('put', 'late', 'v');
        assert.equal(text((await next).value.payload), 'late');
    } finally {
        events.close();
    }
});

await step('blocks are delivered whole, filtered and with private data', async () => {
    const startBlock = start.blockNumber;
    const first = async (events) => {
        try {
            return (await events[Symbol.asyncIterator]().next()).value;
        } finally {
            events.close();
        }
    };
    const block = await first(await network.getBlockEvents({ startBlock }));
    assert.equal(BigInt(block.getHeader().getNumber()), startBlock);
    const filtered = await first(await network.getFilteredBlockEvents({ startBlock }));
    const [transaction] = filtered.getFilteredTransactionsList();
    assert.equal(transaction.getTxid(), start.transactionId);
    const [action] = transaction.getTransactionActions().getChaincodeActionsList();
    assert.equal(action.getChaincodeEvent().getEventName(), 'put');
    const events = await network.getBlockAndPrivateDataEvents({ startBlock });
    try {
        for await (const each of events) {
            if (each.getPrivateDataMapMap().getLength() > 0) {
                break;
            }
        }
    } finally {
        events.close();
    }
});

gateway.close();
transport.close();
