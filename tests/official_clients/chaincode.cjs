// A chaincode service on Hyperledger's own shim, with the functions of `tests/support/chaincode.rs`.
//
// node chaincode.cjs ADDRESS PACKAGE_ID NAME

'use strict';

const shim = require('fabric-shim');
const { KeyEndorsementPolicy } = shim;

const [address, ccid, name] = process.argv.slice(2);

const functions = {
    async put(stub, key, value) {
        stub.setEvent('put', Buffer.from(key));
        await stub.putState(key, Buffer.from(value));
    },
    get: (stub, key) => stub.getState(key),
    async putPrivate(stub, collection, key) {
        await stub.putPrivateData(collection, key, stub.getTransient().get('value'));
    },
    getPrivate: (stub, collection, key) => stub.getPrivateData(collection, key),
    async guard(stub, key, ...mspIds) {
        const policy = new KeyEndorsementPolicy();
        policy.addOrgs('PEER', ...mspIds);
        await stub.setStateValidationParameter(key, policy.getPolicy());
    },
    async who(stub) {
        await stub.putState('who', Buffer.from(name));
        return Buffer.from(name);
    },
    async fail(_stub, text) {
        throw new Error(text);
    },
    /** Keys in a range, and the values that a key has had. */
    async keys(stub, from, to) {
        const keys = [];
        for await (const { key } of stub.getStateByRange(from, to)) {
            keys.push(key);
        }
        return Buffer.from(keys.join(' '));
    },
    async history(stub, key) {
        const values = [];
        for await (const { value } of stub.getHistoryForKey(key)) {
            values.push(Buffer.from(value).toString());
        }
        return Buffer.from(values.join(' '));
    },
    async purge(stub, collection, key) {
        await stub.purgePrivateData(collection, key);
    },
    caller: (stub) => Buffer.from(stub.getCreator().mspid),
};

const chaincode = {
    Init: async () => shim.success(),
    async Invoke(stub) {
        const { fcn, params } = stub.getFunctionAndParameters();
        try {
            return shim.success(Buffer.from((await functions[fcn](stub, ...params)) ?? ''));
        } catch (error) {
            return shim.error(error.message);
        }
    },
};

shim.server(chaincode, { ccid, address }).start().catch((error) => {
    console.error(error);
    process.exit(1);
});
