// Whether a document is an AsyncAPI document. Usage: node asyncapi.mjs FILE
import { readFileSync } from "node:fs";
import { Parser } from "@asyncapi/parser";

const [, , file] = process.argv;
const { document, diagnostics } = await new Parser().parse(readFileSync(file, "utf8"), { source: file });
// Severity 0 is an error, 1 a warning; the rest is advice.
const problems = diagnostics.filter(({ severity }) => severity <= 1);
for (const { message, path } of problems) {
  console.error(`${file}: ${path.join(".")}: ${message}`);
}
process.exit(document && problems.length === 0 ? 0 : 1);
