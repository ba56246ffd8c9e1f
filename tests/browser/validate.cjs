// Prints the Khronos validator's report on a GLB file, as JSON.
//   node validate.cjs FOLDER_OF_NODE_MODULES FILE
"use strict";

const fs = require("fs");
const path = require("path");

const [folder, file] = process.argv.slice(2);
const validator = require(path.resolve(folder, "gltf-validator"));
validator
  .validateBytes(new Uint8Array(fs.readFileSync(file)))
  .then((report) => console.log(JSON.stringify(report)));
