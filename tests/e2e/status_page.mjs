// node status_page.mjs ORIGIN DIRECTORY
// Reads the status page in Debian's Chromium: light and dark, on a desktop and on a phone, with and without script, by
// pointer and by keyboard. Writes screenshots into DIRECTORY, and says a line of JSON for each step. Before some steps
// it waits for a line of its input.
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { createInterface } from 'node:readline';

const require = createRequire(new URL('../../target/browser/', import.meta.url));
const { chromium } = require('playwright-core');
const axe = readFileSync(require.resolve('axe-core/axe.min.js'), 'utf8');
const [origin, directory] = process.argv.slice(2);
const TIMEOUT = 60_000;
const VIEWS = [
    ['desktop-light', { viewport: { width: 1280, height: 900 }, colorScheme: 'light' }],
    ['desktop-dark', { viewport: { width: 1280, height: 900 }, colorScheme: 'dark' }],
    ['phone-light', { viewport: { width: 360, height: 740 }, colorScheme: 'light', deviceScaleFactor: 2, hasTouch: true }],
    ['phone-dark', { viewport: { width: 360, height: 740 }, colorScheme: 'dark', deviceScaleFactor: 2, hasTouch: true }],
];

const lines = createInterface({ input: process.stdin })[Symbol.asyncIterator]();
const say = (report) => console.log(JSON.stringify(report));
const hear = () => lines.next();

const browser = await chromium.launch({
    executablePath: process.env.CHROMIUM || '/usr/bin/chromium',
    args: ['--no-sandbox', '--disable-gpu', '--disable-dev-shm-usage'],
});

async function open(options) {
    const context = await browser.newContext(options);
    const page = await context.newPage();
    page.setDefaultTimeout(TIMEOUT);
    const errors = [];
    // A violation of the policy is an error of the console.
    page.on('console', (message) => message.type() === 'error' && errors.push(message.text()));
    page.on('pageerror', (error) => errors.push(String(error)));
    const requests = [];
    page.on('request', (request) => requests.push(new URL(request.url()).origin));
    await page.goto(origin);
    return { context, page, errors, requests };
}

const becomes = (page, text) => page.waitForFunction((text) => document.getElementById('state').textContent === text, text);
const words = (page) => page.evaluate(() => document.getElementById('page').innerText.replace(/\s+/g, ' '));

async function view(name, options) {
    const { context, page, errors, requests } = await open(options);
    await becomes(page, 'Live');
    await page.screenshot({ path: `${directory}/${name}.png`, fullPage: true });
    const width = await page.evaluate(() => document.documentElement.scrollWidth);
    // The page's own policy allows no other script, so the checker comes by the debugger.
    const session = await context.newCDPSession(page);
    const run = async (expression) => {
        const answer = await session.send('Runtime.evaluate', { expression, awaitPromise: true, returnByValue: true });
        if (answer.exceptionDetails) throw new Error(JSON.stringify(answer.exceptionDetails));
        return answer.result.value;
    };
    await run(`${axe}; null`);
    const violations = await run(`axe.run(document, { resultTypes: ['violations'] }).then(({ violations }) =>
        violations.map(({ id, nodes }) => id + ': ' + nodes.map(({ html }) => html).join(' | ')))`);
    const foreign = requests.filter((each) => each !== new URL(origin).origin && each !== 'null');
    say({ view: name, overflow: width - options.viewport.width, errors, violations, foreign });
    await context.close();
}

async function withoutScript() {
    const { context, page, errors } = await open({ javaScriptEnabled: false });
    const text = await page.locator('#page').innerText();
    const controls = await page.locator('#live, .chart input').evaluateAll((all) => all.filter((it) => it.checkVisibility()).length);
    await page.screenshot({ path: `${directory}/without-script.png`, fullPage: true });
    say({ text: text.replace(/\s+/g, ' '), controls, errors, hint: await page.locator('noscript').innerText() });
    await context.close();
}

try {
    for (const [name, options] of VIEWS) await view(name, options);
    await withoutScript();

    const { page, errors } = await open({ viewport: { width: 1280, height: 900 } });
    await becomes(page, 'Live');
    say({ before: await words(page) });
    await hear();
    await page.waitForFunction(() => document.getElementById('page').innerText.includes('4xx 7'));
    say({ after: await words(page) });

    // By keyboard alone: from the start of the page to the first chart, and back in time.
    await page.waitForFunction(() => Number(document.querySelector('.chart input').max) >= 1);
    await page.evaluate(() => document.activeElement.blur());
    await page.keyboard.press('Tab');
    const first = await page.evaluate(() => document.activeElement.id);
    let label = null;
    for (let press = 0; press < 5 && !label; press++) {
        await page.keyboard.press('Tab');
        label = await page.evaluate(() => document.activeElement.getAttribute('aria-label'));
    }
    await page.keyboard.press('ArrowLeft');
    const reading = await page.locator('.chart').first().locator('.reading').innerText();
    const spoken = await page.evaluate(() => document.activeElement.getAttribute('aria-valuetext'));
    await page.screenshot({ path: `${directory}/keyboard.png` });
    // By pointer, at the right edge of the second chart.
    const box = await page.locator('.chart').nth(1).locator('svg').boundingBox();
    await page.mouse.move(box.x + box.width - 1, box.y + box.height / 2);
    const hovered = await page.locator('.chart').nth(1).locator('.reading').innerText();
    await page.mouse.move(2, 2);
    const left = await page.locator('.chart').nth(1).locator('.reading').innerText();
    say({ first, label, reading, spoken, hovered, left });

    await page.locator('#pause').focus();
    await page.keyboard.press('Enter');
    await becomes(page, 'Paused');
    const streams = await page.evaluate(() => document.getElementById('pause').textContent);
    await page.keyboard.press('Enter');
    await becomes(page, 'Live');
    say({ paused: streams, resumed: await page.evaluate(() => document.getElementById('pause').textContent) });

    await hear();
    await becomes(page, 'Connection lost, trying again');
    say({ lost: true });
    await hear();
    await becomes(page, 'Live');
    say({ process: (await words(page)).match(/process (\d+)/)[1], errors: errors.filter((text) => !text.includes('ERR_')) });
} catch (error) {
    say({ error: String(error) });
}
await browser.close();
