// api_client.mjs LIBRARY HOST PORT [NODE…]: logs in as root@pam, reads the version and the status of each NODE, writes one option, with a client library from
// npm (proxmox-api or @corsinvest/cv4pve-api-javascript), and prints what it got as JSON. NODE_EXTRA_CA_CERTS names the CA.
import { createRequire } from 'node:module';

const [library, host, port, ...nodes] = process.argv.slice(2);
const require = createRequire(`${process.cwd()}/target/browser/package.json`);
const answer = { version: null, written: null, wrongPassword: null };

if (library === 'proxmox-api') {
    const { default: proxmoxApi } = require('proxmox-api');
    const api = proxmoxApi({ host, port: Number(port), username: 'root@pam', password: 'demo' });
    answer.version = (await api.version.$get()).version;
    for (const node of nodes) await api.nodes.$(node).status.$get();
    answer.written = await api.cluster.options.$put({ keyboard: 'de' });
    const stranger = proxmoxApi({ host, port: Number(port), username: 'root@pam', password: 'wrong' });
    answer.wrongPassword = await stranger.version.$get().then(() => 'in', (error) => String(error.message ?? error));
} else {
    const { PveClient } = require('@corsinvest/cv4pve-api-javascript');
    const client = new PveClient(host, Number(port));
    if (!(await client.login('root', 'demo', 'pam'))) throw new Error('login failed');
    answer.version = (await client.get('/version')).response.data.version;
    for (const node of nodes) {
        const read = await client.get(`/nodes/${node}/status`);
        if (!read.isSuccessStatusCode) throw new Error(`${node}: ${read.statusCode} ${read.reasonPhrase}`);
    }
    const written = await client.set('/cluster/options', { keyboard: 'de' });
    if (!written.isSuccessStatusCode) throw new Error(`${written.statusCode} ${written.reasonPhrase}`);
    answer.written = written.response.data;
    answer.wrongPassword = String(await new PveClient(host, Number(port)).login('root', 'wrong', 'pam'));
}
console.log(JSON.stringify(answer));
