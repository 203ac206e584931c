// Lists the images and subfolders of a folder, fast enough for millions of files.
#pragma once

#include <string>
#include <vector>

namespace lds {

struct FolderList {
  std::string images;                // names that end in one of the extensions, each terminated by a 0 byte
  size_t count = 0;                  // number of images
  std::vector<std::string> folders;  // names of folders, and of links to folders
  bool ascii = true;                 // all image names are ASCII; only then are they sorted, in Python's string order
};

// `extensions` are in lower case, and match names in any case. "." and ".." are not listed. Error(Reason::io) names the
// folder.
FolderList list_folder(const std::string& path, const std::vector<std::string>& extensions);

}  // namespace lds
