// One folder's entries, as fast as the kernel gives them.
#pragma once

#include <string>
#include <vector>

namespace lds {

struct FolderList {
  std::string images;                // names that end in one of the extensions, each with a 0 byte after it
  size_t count = 0;                  // of them
  std::vector<std::string> folders;  // names of folders, and of links to folders
  bool ascii = true;                 // true: `images` are in Python's order of strings, else in none
};

// `extensions`: in lower case; names are compared without case. Neither "." nor ".." is listed.
// Error(Reason::io) naming the folder.
FolderList list_folder(const std::string& path, const std::vector<std::string>& extensions);

}  // namespace lds
