// node status_text.mjs ORIGIN PATH
// Opens ORIGIN in Debian's Chromium and asks PATH with an API token; says as JSON the status and its text, read as UTF-8.
import { createRequire } from 'node:module';

const modules = new URL('../../target/browser/', import.meta.url);
const { chromium } = createRequire(modules)('playwright-core');
const [origin, path] = process.argv.slice(2);

const browser = await chromium.launch({
    executablePath: process.env.CHROMIUM || '/usr/bin/chromium',
    args: ['--no-sandbox', '--disable-gpu', '--disable-dev-shm-usage', '--ignore-certificate-errors'],
});
try {
    const context = await browser.newContext({ ignoreHTTPSErrors: true });
    const page = await context.newPage();
    await page.goto(origin);
    const reported = await page.evaluate(async (path) => {
        const headers = { Authorization: 'PVEAPIToken=root@pam!t=5f0c1a52-0000-4000-8000-000000000001' };
        const answer = await fetch(path, { headers });
        const ask = new XMLHttpRequest();
        const asked = new Promise((done) => { ask.onloadend = done; });
        ask.open('GET', path);
        ask.setRequestHeader('Authorization', headers.Authorization);
        ask.send();
        await asked;
        return { status: answer.status, fetched: answer.statusText, asked: ask.statusText };
    }, path);
    const text = Buffer.from(reported.fetched, 'latin1').toString();
    console.log(JSON.stringify({ ...reported, text: reported.fetched === reported.asked ? text : null }));
} finally {
    await browser.close();
}
