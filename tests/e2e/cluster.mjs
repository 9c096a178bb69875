// node cluster.mjs ORIGIN: as an admin's browser does it. Opens the start page in Debian's Chromium, logs in, opens a console of
// node1, asks for the status of three nodes, and asks again after each line on stdin. A line of JSON each time.
import { createInterface } from 'node:readline/promises';
import { createRequire } from 'node:module';

const { chromium } = createRequire(new URL('../../target/browser/', import.meta.url))('playwright-core');
const [origin] = process.argv.slice(2);

const browser = await chromium.launch({
    executablePath: process.env.CHROMIUM || '/usr/bin/chromium',
    args: ['--no-sandbox', '--disable-gpu', '--disable-dev-shm-usage', '--ignore-certificate-errors'],
});
const say = (what) => process.stdout.write(`${JSON.stringify(what)}\n`);
try {
    const context = await browser.newContext({ ignoreHTTPSErrors: true });
    const page = await context.newPage();
    await page.goto(`${origin}/`);
    const before = await page.evaluate(() => window.Proxmox);
    await page.evaluate(async () => {
        const form = new URLSearchParams({ username: 'root@pam', password: 'demo' });
        const answer = await fetch('/api2/extjs/access/ticket', { method: 'POST', body: form });
        const { data } = await answer.json();
        document.cookie = `PVEAuthCookie=${encodeURIComponent(data.ticket)}; path=/; secure; SameSite=Lax`;
    });
    await page.reload();
    const after = await page.evaluate(() => window.Proxmox);
    const greeting = await page.evaluate(async () => {
        const api = '/api2/json/nodes/node1/qemu/100';
        const headers = { CSRFPreventionToken: window.Proxmox.CSRFPreventionToken };
        const made = await fetch(`${api}/vncproxy`, { method: 'POST', headers, body: new URLSearchParams({ websocket: '1' }) });
        const { port, ticket } = (await made.json()).data;
        const query = new URLSearchParams({ port, vncticket: ticket });
        const socket = new WebSocket(`wss://${location.host}${api}/vncwebsocket?${query}`, 'binary');
        socket.binaryType = 'arraybuffer';
        window.socket = socket;
        return new Promise((resolve, reject) => {
            socket.onmessage = ({ data }) => resolve(new TextDecoder().decode(data));
            socket.onclose = ({ code }) => reject(new Error(`console closed with ${code}`));
        });
    });
    const ask = () => page.evaluate(async () => {
        const status = async (node) => {
            const answer = await fetch(`/api2/json/nodes/${node}/status`);
            return { status: answer.status, message: (await answer.json()).message ?? null };
        };
        const nodes = await Promise.all(['node1', 'node2', 'node3'].map(status));
        return { nodes, open: window.socket.readyState === WebSocket.OPEN };
    });
    say({ before, after, greeting, ...(await ask()) });
    for await (const _ of createInterface({ input: process.stdin })) say(await ask());
} catch (error) {
    say({ error: String(error) });
}
await browser.close();
