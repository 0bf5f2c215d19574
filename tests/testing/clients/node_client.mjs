// Calls the stand-in with the official Node package and prints the results as JSON.
// CONVERSATION_NODE_MODULES is the folder of the package, because `import` ignores NODE_PATH.
import { createRequire } from "node:module";
import { join } from "node:path";

const modules = join(process.env.CONVERSATION_NODE_MODULES, "/");
const { default: OpenAI, toFile } = createRequire(modules)("openai");
const client = new OpenAI({ apiKey: "any", baseURL: process.argv[2], maxRetries: 0 });

const question = (format, ...messages) => ({
  model: "gpt-audio-1.5",
  modalities: ["text", "audio"],
  audio: { voice: "alloy", format },
  messages: [{ role: "user", content: "Hello" }, ...messages],
});

const completion = await client.chat.completions.create(question("wav"));
const { id, data, transcript } = completion.choices[0].message.audio;

const followUp = [{ role: "assistant", audio: { id } }, { role: "user", content: "And now?" }];
const stream = await client.chat.completions.create({
  ...question("pcm16", ...followUp),
  stream: true,
  stream_options: { include_usage: true },
});
const streamed = { transcript: "", bytes: 0, finishReason: null, audioTokens: 0 };
for await (const chunk of stream) {
  for (const { delta, finish_reason } of chunk.choices) {
    streamed.transcript += delta.audio?.transcript ?? "";
    streamed.bytes += Buffer.from(delta.audio?.data ?? "", "base64").length;
    streamed.finishReason ??= finish_reason;
  }
  streamed.audioTokens += chunk.usage?.completion_tokens_details?.audio_tokens ?? 0;
}

const lost = { role: "assistant", audio: { id: `audio_${"0".repeat(32)}` } };
const refused = await client.chat.completions
  .create(question("wav", lost))
  .catch(({ status, code, param }) => ({ status, code, param }));

const wav = Buffer.from(data, "base64");
const transcription = await client.audio.transcriptions.create({
  file: await toFile(wav, "said.wav"),
  model: "gpt-transcribe",
});
const speech = await client.audio.speech.create({
  model: "gpt-4o-mini-tts",
  voice: "alloy",
  input: "Good morning.",
  response_format: "pcm",
});

const results = {
  transcript,
  streamed,
  refused,
  transcription: transcription.text,
  speechBytes: (await speech.arrayBuffer()).byteLength,
  models: (await client.models.list()).data.map((model) => model.id),
};
console.log(JSON.stringify(results));
