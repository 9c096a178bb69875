// node windows.mjs ORIGIN TICKET SECONDS
// Six windows of Debian's Chromium poll the API, four times a second each; says as JSON how long every call took, in ms.
import { createRequire } from 'node:module';

const modules = new URL('../../target/browser/', import.meta.url);
const { chromium } = createRequire(modules)('playwright-core');
const [origin, ticket, seconds] = process.argv.slice(2);

const browser = await chromium.launch({
    executablePath: process.env.CHROMIUM || '/usr/bin/chromium',
    args: ['--no-sandbox', '--disable-gpu', '--disable-dev-shm-usage', '--ignore-certificate-errors'],
});
try {
    const context = await browser.newContext({ ignoreHTTPSErrors: true });
    await context.addCookies([{ name: 'PVEAuthCookie', value: encodeURIComponent(ticket), url: origin }]);
    const pages = [];
    for (let number = 0; number < 6; number++) {
        const page = await context.newPage();
        await page.goto(`${origin}/pve2/js/windows.html`);
        pages.push(page);
    }
    const reported = await Promise.all(pages.map((page) => page.evaluate(async (seconds) => {
        const paths = ['cluster/resources', 'cluster/tasks', 'nodes/node1/status'];
        const times = [];
        const until = performance.now() + seconds * 1000;
        for (let turn = 0; performance.now() < until; turn++) {
            const begun = performance.now();
            const answer = await fetch(`/api2/json/${paths[turn % paths.length]}`);
            await answer.text();
            if (answer.status !== 200) {
                throw new Error(`answered with ${answer.status}`);
            }
            times.push(performance.now() - begun);
            await new Promise((done) => setTimeout(done, 250));
        }
        return times;
    }, Number(seconds))));
    console.log(JSON.stringify(reported.flat()));
} finally {
    await browser.close();
}
