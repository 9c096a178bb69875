// burst.mjs ORIGIN PATH CA ROUNDS REQUESTS: requests at once over one connection of Node's own HTTP/2 client.
import { connect, constants } from 'node:http2';
import { readFileSync } from 'node:fs';

const [origin, path, authority, rounds, requests] = process.argv.slice(2);
const ca = readFileSync(authority);
let answered = 0;

function request(session) {
    return new Promise((resolve) => {
        const stream = session.request({ [constants.HTTP2_HEADER_PATH]: path });
        let status = 0;
        stream.on('response', (fields) => { status = fields[constants.HTTP2_HEADER_STATUS]; });
        stream.on('error', () => {});
        stream.on('close', () => {
            answered += status === 200 && stream.rstCode === constants.NGHTTP2_NO_ERROR ? 1 : 0;
            resolve();
        });
        stream.resume();
        stream.end();
    });
}

for (let round = 0; round < Number(rounds); round += 1) {
    const session = connect(origin, { ca, checkServerIdentity: () => undefined });
    session.on('error', () => {});
    await Promise.all(Array.from({ length: Number(requests) }, () => request(session)));
    session.destroy();
}
console.log(`${answered} answered`);
process.exit(0);
