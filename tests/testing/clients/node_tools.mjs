// Has the tool runner of the official Node package call a tool, streamed and not, and prints what came of it.
import { createRequire } from "node:module";
import { join } from "node:path";

const modules = join(process.env.CONVERSATION_NODE_MODULES, "/");
const { default: OpenAI } = createRequire(modules)("openai");
const client = new OpenAI({ apiKey: "any", baseURL: process.argv[2], maxRetries: 0 });

const calls = [];
const question = {
  model: process.argv[3],
  messages: [{ role: "user", content: "Is it cold?" }],
  tools: [
    {
      type: "function",
      function: {
        name: "weather",
        parameters: { type: "object", properties: { city: { type: "string" } } },
        parse: JSON.parse,
        function: ({ city }) => {
          calls.push(city);
          return `cold in ${city}`;
        },
      },
    },
  ],
};

const run = client.chat.completions.runTools(question);
const content = await run.finalContent();

const stream = client.chat.completions.runTools({ ...question, stream: true });
let streamed = "";
stream.on("content", (piece) => (streamed += piece));
await stream.done();

console.log(JSON.stringify({ content, streamed, calls }));
