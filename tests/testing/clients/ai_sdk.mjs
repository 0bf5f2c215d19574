// Calls the stand-in with the AI SDK and prints the results as JSON.
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";

const require = createRequire(join(process.env.CONVERSATION_NODE_MODULES, "/"));
const { generateObject, generateText, jsonSchema, stepCountIs, streamText, tool } = require("ai");
const { createOpenAICompatible } = require("@ai-sdk/openai-compatible");

const [, , baseURL, sound] = process.argv;
const provider = createOpenAICompatible({
  name: "stand-in",
  baseURL,
  apiKey: "any",
  supportsStructuredOutputs: true,
});
const model = provider("gpt-5");
const options = { model, maxRetries: 0, prompt: "Hello" };

const calls = [];
const weather = tool({
  description: "Return the weather.",
  inputSchema: jsonSchema({
    type: "object",
    properties: { city: { type: "string" } },
    required: ["city"],
  }),
  execute: async ({ city }) => {
    calls.push(city);
    return `cold in ${city}`;
  },
});
const tools = { tools: { weather }, stopWhen: stepCountIs(3) };
const written = async (more) => {
  let text = "";
  for await (const piece of streamText({ ...options, ...more }).textStream) text += piece;
  return text;
};

const results = {
  text: (await generateText(options)).text,
  streamed: await written({}),
  tools: (await generateText({ ...options, ...tools })).text,
  streamedTools: await written(tools),
  forced: (await generateText({ ...options, tools: { weather }, toolChoice: "required" }))
    .toolCalls.map(({ toolName, input }) => [toolName, input]),
  object: (
    await generateObject({
      ...options,
      schema: jsonSchema({
        type: "object",
        properties: { city: { type: "string" }, days: { type: "integer", minimum: 3 } },
        required: ["city", "days"],
        additionalProperties: false,
      }),
    })
  ).object,
  heard: (
    await generateText({
      model: provider("gpt-audio-1.5"),
      maxRetries: 0,
      messages: [
        {
          role: "user",
          content: [
            { type: "text", text: "What did I say?" },
            { type: "file", mediaType: "audio/wav", data: readFileSync(sound) },
          ],
        },
      ],
    })
  ).text,
  refused: await generateText({ ...options, temperature: 3 }).catch((error) => error.message),
  calls,
};
console.log(JSON.stringify(results));
