// Shows a page in a headless browser and tells how its connection is: orders on stdin, observations on stdout.
import { createInterface } from 'node:readline';

import { chromium } from 'playwright-core';

const options = Object.fromEntries(process.argv.slice(2).map((pair) => [pair.slice(0, pair.indexOf('=')), pair.slice(pair.indexOf('=') + 1)]));
const saw = (what, more = {}) => process.stdout.write(`${JSON.stringify({ saw: what, ...more })}\n`);

/** The system's Chromium, else the one that npm carries. */
async function launch() {
  if (options.chromium) return chromium.launch({ executablePath: options.chromium, args: ['--no-sandbox'] });
  const { default: packed } = await import('@sparticuz/chromium');
  return chromium.launch({ executablePath: await packed.executablePath(), args: packed.args, headless: true });
}

const browser = await launch();
// Tabs of one context share their storage.
const tabs = await browser.newContext({ viewport: { width: 560, height: 760 } });
const page = await tabs.newPage();
page.on('pageerror', (error) => saw('page_error', { what: String(error) }));
await page.exposeFunction('tell', (status) => saw('status', { status }));
await page.goto(options.url);
await page.waitForSelector('section[data-status]');
await page.evaluate(() => {
  const section = document.querySelector('section[data-status]');
  globalThis.tell(section.dataset.status);
  new MutationObserver(() => globalThis.tell(section.dataset.status)).observe(section, { attributeFilter: ['data-status'] });
});
for await (const line of createInterface({ input: process.stdin })) {
  const order = JSON.parse(line);
  if (order.do === 'screenshot') {
    await page.screenshot({ path: order.path });
    saw('screenshot', { path: order.path });
  } else if (order.do === 'read') {
    saw('text', { text: await page.locator(order.selector).first().innerText() });
  } else if (order.do === 'fill') {
    await page.locator('form input').fill(order.text);
    await page.getByRole('button', { name: 'Send' }).click();
  } else if (order.do === 'other_tab') {
    // Another tab that writes and is closed.
    const other = await tabs.newPage();
    await other.goto(options.url);
    await other.locator('form input').fill(order.text);
    await other.getByRole('button', { name: 'Send' }).click();
    await other.locator('form output', { hasText: 'queued' }).waitFor();
    await other.close();
    saw('other_tab');
  } else if (order.do === 'stop') {
    break;
  }
}
await browser.close();
process.exit(0);
